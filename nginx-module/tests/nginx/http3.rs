//! A client of HTTP/3, and what nginx needs to speak it: a port of UDP and a certificate.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::{Buf, Bytes};
use h3::error::StreamError;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::CertificateDer;
use tokio::runtime::Runtime;

use crate::harness::{Reserved, Response, Site, program};

const PATIENCE: Duration = Duration::from_secs(60);
/// H3_INTERNAL_ERROR (RFC 9114, section 8.1): the one that does not say that the request may be sent again.
pub(crate) const INTERNAL_ERROR: u64 = 0x102;

/// Whether the nginx under test speaks HTTP/3. If not, says once that what needs it is skipped.
pub(crate) fn has_http_3() -> bool {
    static HAS: LazyLock<bool> = LazyLock::new(|| {
        let output = Command::new(program()).arg("-V").output().expect("nginx is installed: make setup");
        let has = String::from_utf8_lossy(&output.stderr).contains("--with-http_v3_module");
        if !has {
            // Past what a test that passes keeps to itself.
            let line = format!("tests of HTTP/3 skipped: {} is built without --with-http_v3_module\n", program());
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
        has
    });
    *HAS
}

/// Where nginx listens for HTTP/3.
pub(crate) struct Quic {
    port: Reserved,
    certificate: CertificateDer<'static>,
}

impl Quic {
    /// Puts a certificate into the folder of a site.
    pub(crate) fn new(place: &Site) -> Quic {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(place.path("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(place.path("key.pem"), made.signing_key.serialize_pem()).unwrap();
        Quic { port: Reserved::udp(), certificate: made.cert.der().clone() }
    }

    /// What stands in a `server` block for it.
    fn listen(&self) -> String {
        format!(
            "listen 127.0.0.1:{} quic reuseport; ssl_certificate $FOLDER/cert.pem; ssl_certificate_key $FOLDER/key.pem;",
            self.port.port
        )
    }

    /// A configuration whose server listens for it as well.
    pub(crate) fn beside(&self, http: &str) -> String {
        http.replace("listen $LISTEN;", &format!("listen $LISTEN; {}", self.listen()))
    }

    /// One connection, from a port of its own.
    #[track_caller]
    pub(crate) fn connect(&self) -> Client {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h3".to_vec()];
        let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let mut transport = quinn::TransportConfig::default();
        // A connection on which nothing happens is left as it is.
        transport.max_idle_timeout(None);
        config.transport_config(Arc::new(transport));

        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port.port));
        let (endpoint, requests) = runtime.block_on(async {
            let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            let connecting = endpoint.connect_with(config, to, "localhost").unwrap();
            let connection = tokio::time::timeout(PATIENCE, connecting).await.expect("nginx answers").unwrap();
            // Without the frames of no meaning that clients strew in: to nginx 1.28, a request with such a frame
            // at its end is one that broke off.
            let mut client = h3::client::builder();
            let made = client.send_grease(false).build(h3_quinn::Connection::new(connection)).await;
            let (mut driver, requests) = made.unwrap();
            tokio::spawn(async move { driver.wait_idle().await });
            (endpoint, requests)
        });
        Client { requests, endpoint, runtime }
    }
}

/// A connection by HTTP/3. What comes is received whether anybody waits for it or not.
pub(crate) struct Client {
    requests: h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>,
    endpoint: quinn::Endpoint,
    runtime: Runtime,
}

/// A request on such a connection.
pub(crate) struct Stream<'c> {
    of: &'c Client,
    stream: h3::client::RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>,
}

impl Client {
    /// Does something for as long as it takes, but not for ever.
    #[track_caller]
    fn wait<T>(&self, what: impl Future<Output = T>) -> T {
        let in_time = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, what).await });
        in_time.expect("nothing came of it")
    }

    /// Sends a request without a body, with the cookie `sid`.
    #[track_caller]
    pub(crate) fn send(&self, path: &str, id: &str) -> Stream<'_> {
        let mut stream = self.begin(http::Request::get(format!("https://localhost{path}")), id);
        stream.finish();
        stream
    }

    /// Sends the head of a request whose body is to come; it may say how long that is.
    #[track_caller]
    pub(crate) fn post(&self, path: &str, id: &str, length: Option<usize>) -> Stream<'_> {
        let mut request = http::Request::post(format!("https://localhost{path}"));
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        self.begin(request, id)
    }

    #[track_caller]
    fn begin(&self, request: http::request::Builder, id: &str) -> Stream<'_> {
        let request = request.header("cookie", format!("sid={id}")).body(()).unwrap();
        Stream { of: self, stream: self.wait(self.requests.clone().send_request(request)).unwrap() }
    }

    /// A request and its whole answer.
    #[track_caller]
    pub(crate) fn get(&self, path: &str, id: &str) -> Response {
        self.send(path, id).response()
    }
}

impl Drop for Client {
    /// Says goodbye, so that nginx need not wait for the connection's idle timeout.
    fn drop(&mut self) {
        self.endpoint.close(0x100_u32.into(), b"");
        self.runtime.block_on(async { _ = tokio::time::timeout(PATIENCE, self.endpoint.wait_idle()).await });
    }
}

impl Stream<'_> {
    /// The head of the answer.
    #[track_caller]
    pub(crate) fn head(&mut self) -> Response {
        self.try_head().unwrap()
    }

    #[track_caller]
    pub(crate) fn try_head(&mut self) -> Result<Response, StreamError> {
        let response = self.of.wait(self.stream.recv_response())?;
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        Ok(Response { status: response.status().as_u16(), headers, body: String::new() })
    }

    /// The whole answer.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Response {
        let mut response = self.head();
        while let Some(piece) = self.piece().unwrap() {
            response.body.push_str(&String::from_utf8_lossy(&piece));
        }
        response
    }

    /// The next piece of the answer, when there is one: `None` is its end.
    #[track_caller]
    pub(crate) fn piece(&mut self) -> Result<Option<Bytes>, StreamError> {
        let piece = self.of.wait(self.stream.recv_data())?;
        Ok(piece.map(|mut piece| piece.copy_to_bytes(piece.remaining())))
    }

    /// Sends a piece of the request's body.
    #[track_caller]
    pub(crate) fn upload(&mut self, piece: &'static [u8]) -> Result<(), StreamError> {
        self.of.wait(self.stream.send_data(Bytes::from_static(piece)))
    }

    /// All of the request's body has been sent.
    #[track_caller]
    pub(crate) fn finish(&mut self) {
        self.of.wait(self.stream.finish()).unwrap();
    }

    /// Waits until nginx resets the stream before the answer's head; says with which code.
    #[track_caller]
    pub(crate) fn is_reset_without_answer(&mut self) -> u64 {
        code(self.try_head().expect_err("there is an answer"))
    }

    /// Waits until nginx resets the stream; says with which code, and how much of the body came before.
    #[track_caller]
    pub(crate) fn is_reset(&mut self) -> (u64, usize) {
        let mut all = 0;
        loop {
            match self.piece() {
                Ok(Some(piece)) => all += piece.len(),
                Ok(None) => panic!("an end that is no end of the response"),
                Err(error) => return (code(error), all),
            }
        }
    }
}

/// The code with which the other side has reset a stream, of which nothing else must have been ended.
#[track_caller]
pub(crate) fn code(error: StreamError) -> u64 {
    match error {
        StreamError::RemoteTerminate { code, .. } => code.value(),
        other => panic!("not a stream that was reset: {other}"),
    }
}
