"""Drives the C examples with real requests: python3 drive.py PROXY SESSIONS [TEST...]

PROXY and SESSIONS are commands, possibly with a checker in front of them. An application runs in this
process; everything listens on 127.0.0.1, on ports the system hands out. The proxy in Go takes the same
options, and passes the tests of what is open (Streams, IdleStreams). WebSockets are those of the
package websockets.
"""

import asyncio
import concurrent.futures
import http.client
import http.server
import os
import re
import secrets
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.parse

import websockets.exceptions
import websockets.legacy.client
import websockets.server

PROXY, SESSIONS = (shlex.split(command) for command in sys.argv[1:3])
LONG = 60  # how long anything may hang before it is called broken
# Descriptors that a proxy may keep when nothing is open: a pool of connections, and what its runtime wants.
SPARE = int(os.environ.get("CURFEW_SPARE_DESCRIPTORS", 0))


# Without a network: its name has changed.
WebSocketPeer = getattr(websockets.server, "ServerProtocol", None) or websockets.server.ServerConnection


class Application(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen = []
    sockets_ended = 0
    gates = {}

    def log_message(self, *_):
        pass

    def body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            whole = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline() != b"\r\n":
                pass
            return whole
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def reply(self, body=b"", status=200, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        self.is_answered = False
        Application.seen.append(self)
        body = self.body()
        if "?" in self.path:
            self.as_told(urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query))
        elif self.path == "/login":
            who = body.decode() or "alice"
            self.reply(b"welcome", Set_Cookie=f"sid={secrets.token_hex(16)}; HttpOnly", Curfew_Subject=who)
        elif self.path == "/logout":
            self.reply(b"bye", Set_Cookie="sid=; Max-Age=0")
        elif self.path == "/new-id":
            self.reply(b"new", Set_Cookie=f"other=1", set_cookie=f"sid={secrets.token_hex(16)}")
        elif self.path == "/big":
            self.reply(b"0123456789abcdef" * (1 << 18))
        elif self.path == "/empty":
            self.send_response(204)
            self.end_headers()
        elif self.path == "/chunks":
            self.chunks(b"chunk %d\n" % n for n in range(500))
        elif self.path == "/endless":
            try:
                self.chunks((time.sleep(0.02), b"tick\n")[1] for _ in range(100000))
            except OSError:
                self.close_connection = True
        elif self.path == "/events":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.write_until_it_fails((time.sleep(0.02), b"data: tick\n\n")[1] for _ in range(100000))
        elif self.path == "/huge":
            self.send_response(200)
            self.send_header("Content-Length", str(1 << 40))
            self.end_headers()
            self.write_until_it_fails(b"x" * 65536 for _ in range(1 << 24))
        elif self.path in ("/socket", "/talkative"):
            self.websocket(is_talkative=self.path == "/talkative")
        elif self.path == "/unasked":
            self.close_connection = True
            self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        elif self.path == "/until-close":
            self.close_connection = True
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"x" * 100000)
        elif self.path == "/truncated":
            self.close_connection = True
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 10)
        elif self.path == "/nonsense":
            self.close_connection = True
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx")
        else:
            self.reply(body or b"hello")

    do_POST = do_HEAD = do_PUT = do_GET

    def as_told(self, told):
        """Answers what the query of the request says."""
        time.sleep(float(told.get("after", ["0"])[0]))
        for gate in told.get("gate", []):
            Application.gates[gate].wait(LONG)
        if "early" in told:
            self.early(told["early"])
        status = int(told.get("status", ["200"])[0])
        self.send_response(status)
        for value in told.get("set", []):
            self.send_header("Set-Cookie", value)
        for value in told.get("subject", []):
            self.send_header("Curfew-Subject", value)
        if status == 101:
            self.send_header("Connection", "Upgrade")
            self.send_header("Upgrade", "websocket")
            self.end_headers()
            self.close_connection = True
            self.rfile.read()
        else:
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"told")
        self.is_answered = True

    def early(self, cookies):
        """A head before the response's own, with much that has no place there."""
        self.send_response_only(103, "Early Hints")
        self.send_header("Link", "</style.css>; rel=preload")
        for value in cookies:
            self.send_header("Set-Cookie", value)
        for line in ("Curfew-Subject: oscar", "Content-Length: 4", "Connection: X-Mine", "X-Mine: 1"):
            self.send_header(*line.split(": "))
        self.end_headers()

    def write_until_it_fails(self, parts):
        self.close_connection = True
        try:
            for part in parts:
                self.wfile.write(part)
                self.wfile.flush()
        except OSError:
            pass

    def websocket(self, is_talkative):
        """Sends back what it gets; a talkative one also speaks without being asked."""
        self.close_connection = True
        peer = WebSocketPeer()
        peer.receive_data(self.raw_requestline + str(self.headers).replace("\n", "\r\n").encode())
        peer.send_response(peer.accept(peer.events_received()[0]))
        try:
            while True:
                for data in peer.data_to_send():
                    self.connection.sendall(data)
                    if not data:
                        return
                if is_talkative and not select.select([self.connection], [], [], 0.02)[0]:
                    peer.send_text(b"tick")
                    continue
                if not (data := self.connection.recv(65536)):
                    return
                peer.receive_data(data)
                for frame in peer.events_received():
                    if frame.opcode.name == "TEXT":
                        peer.send_text(frame.data)
        except OSError:
            pass
        finally:
            Application.sockets_ended += 1

    def chunks(self, parts):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in parts:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.flush()
        self.wfile.write(b"0\r\nTrailer: yes\r\n\r\n")


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, request, address):
        # The proxy hangs up on a response that it holds back.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, address)


class Case(unittest.TestCase):
    idle = 3600

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        cls.region = os.path.join(cls.directory.name, "app.region")
        cls.application = Server(("127.0.0.1", 0), Application)
        threading.Thread(target=cls.application.serve_forever, daemon=True).start()
        cls.start_proxy()

    @classmethod
    def run_proxy(cls):
        upstream = "127.0.0.1:%d" % cls.application.server_address[1]
        proxy = subprocess.Popen(
            [*PROXY, "--region", cls.region, "--upstream", upstream, "--idle", str(cls.idle), "--capacity", "2000"],
            stdout=subprocess.PIPE, text=True)
        line = proxy.stdout.readline()
        return proxy, int(re.fullmatch(r"listening on 127\.0\.0\.1:(\d+)\n", line)[1])

    @classmethod
    def start_proxy(cls):
        cls.proxy, cls.port = cls.run_proxy()
        cls.descriptors = cls.open_descriptors() + SPARE

    @classmethod
    def open_descriptors(cls):
        return len(os.listdir(f"/proc/{cls.proxy.pid}/fd"))

    @classmethod
    def stop_proxy(cls, proxy=None):
        proxy = proxy or cls.proxy
        proxy.terminate()
        status = proxy.wait(LONG)
        proxy.stdout.close()
        assert status == 0, f"the proxy, or what checks it, ended with {status}"

    @classmethod
    def tearDownClass(cls):
        cls.addClassCleanup(cls.directory.cleanup)
        cls.addClassCleanup(cls.application.server_close)
        cls.addClassCleanup(cls.application.shutdown)
        cls.stop_proxy()

    def connect(self, port=None):
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=LONG)
        self.addCleanup(connection.close)
        return connection

    def request(self, connection, method, path, body=None, sid=None, **more):
        headers = {"Cookie": f"theme=dark; sid={sid}"} if sid else {}
        connection.request(method, path, body=body, headers={**headers, **more})
        response = connection.getresponse()
        response.whole = response.read()
        return response

    def login(self, who="alice", connection=None):
        mine = connection or self.connect()
        response = self.request(mine, "POST", "/login", who.encode())
        if not connection:
            mine.close()
        self.assertEqual(response.status, 200)
        self.assertIsNone(response.headers["Curfew-Subject"])
        return re.search("sid=([0-9a-f]+)", response.headers["Set-Cookie"])[1]

    def told(self, path, *cookies, sid=None, port=None, **more):
        """The answer when the application is told to set these cookies."""
        query = urllib.parse.urlencode([("set", cookie) for cookie in cookies] + list(more.items()))
        connection = self.connect(port)
        response = self.request(connection, "GET", f"{path}?{query}", sid=sid)
        connection.close()
        return response

    def held(self, *proxies):
        """Requests whose responses the proxies find all at once."""
        return Held(self, proxies or (self.proxy,))

    def judged(self, sid):
        """What comes of a request with this id."""
        return self.request(self.connect(), "GET", "/", sid=sid).whole

    def raw(self, text, shut=False):
        with socket.create_connection(("127.0.0.1", self.port), timeout=LONG) as plug:
            plug.sendall(text)
            if shut:
                plug.shutdown(socket.SHUT_WR)
            answer = b""
            while part := plug.recv(65536):
                answer += part
            return answer

    def tool(self, *arguments, region=None, library=None):
        environment = {**os.environ, "LD_LIBRARY_PATH": library} if library else None
        command = [*SESSIONS, region or self.region, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=LONG, env=environment)

    def until(self, what):
        limit = time.monotonic() + LONG
        while not what():
            self.assertLess(time.monotonic(), limit)
            time.sleep(0.001)


class Held:
    """Proxies that are stopped while the application answers, in the order of the requests."""

    def __init__(self, case, proxies):
        self.case, self.proxies, self.gates, self.seen = case, proxies, [], len(Application.seen)

    def told(self, *arguments, **more):
        """The request is on its way; gives what gives its answer."""
        gate, answer = secrets.token_hex(8), concurrent.futures.Future()
        Application.gates[gate] = threading.Event()
        self.gates.append(gate)

        def ask():
            try:
                answer.set_result(self.case.told(*arguments, **more, gate=gate))
            except Exception as error:
                answer.set_exception(error)

        threading.Thread(target=ask, daemon=True).start()
        return lambda: answer.result(LONG)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.case.until(lambda: len(Application.seen) == self.seen + len(self.gates))
        requests = {re.search("gate=(.*)", request.path)[1]: request for request in Application.seen[self.seen:]}
        for proxy in self.proxies:
            proxy.send_signal(signal.SIGSTOP)
        try:
            for gate in self.gates:
                Application.gates[gate].set()
                self.case.until(lambda: requests[gate].is_answered)
                del Application.gates[gate]
        finally:
            for proxy in self.proxies:
                proxy.send_signal(signal.SIGCONT)


class Requests(Case):
    def test_without_a_session_a_request_does_not_reach_the_application(self):
        before = len(Application.seen)
        response = self.request(self.connect(), "GET", "/")
        self.assertEqual((response.status, response.whole), (401, b"no session: missing\n"))
        self.assertIn('error="missing"', response.headers["WWW-Authenticate"])
        self.assertEqual(self.request(self.connect(), "GET", "/", sid="made-up").whole, b"no session: unknown\n")
        for path in ("/loginx", "/login/", "/login/../account", "/login/x?", "/login%2f..", "/login;x", "/login#"):
            self.assertEqual(self.raw(f"GET {path} HTTP/1.1\r\n\r\n".encode())[:13], b"HTTP/1.1 401 ", path)
        self.assertEqual(len(Application.seen), before)
        self.assertEqual(self.told("/login").status, 200)

    def test_a_session_begins_when_the_application_issues_its_id(self):
        sid = self.login()
        connection = self.connect()
        for _ in range(3):
            self.assertEqual(self.request(connection, "GET", "/", sid=sid).whole, b"hello")
        self.assertEqual(self.request(connection, "HEAD", "/", sid=sid).status, 200)
        self.assertEqual(self.request(connection, "GET", "/empty", sid=sid).status, 204)
        self.assertEqual(self.request(connection, "GET", "/", sid=sid).whole, b"hello")

    def test_bodies_pass_whole_in_both_directions(self):
        sid, connection = self.login(), self.connect()
        body = os.urandom(3_000_000)
        self.assertEqual(self.request(connection, "POST", "/echo", body, sid=sid).whole, body)
        parts = (body[at:at + 70001] for at in range(0, len(body), 70001))
        self.assertEqual(self.request(connection, "POST", "/echo", parts, sid=sid).whole, body)
        self.assertEqual(len(self.request(connection, "GET", "/big", sid=sid).whole), 16 << 18)
        self.assertEqual(self.request(connection, "GET", "/chunks", sid=sid).whole.count(b"\n"), 500)
        self.assertEqual(len(self.request(connection, "GET", "/until-close", sid=sid).whole), 100000)

    def test_a_slow_reader_gets_everything(self):
        sid = self.login()
        with socket.create_connection(("127.0.0.1", self.port), timeout=LONG) as plug:
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
            plug.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCookie: sid=%s\r\n\r\n" % sid.encode())
            total, pauses = 0, 0
            while part := plug.recv(30000):
                total += len(part)
                pauses += 1
                if pauses % 40 == 0:
                    time.sleep(0.005)
            self.assertGreater(total, 16 << 18)

    def test_requests_in_one_write_are_answered_in_order_and_in_single_bytes_too(self):
        sid = self.login().encode()
        one = b"POST /echo HTTP/1.1\r\nHost: x\r\nCookie: sid=" + sid + b"\r\nContent-Length: 3\r\n%s\r\n%s"
        text = one % (b"", b"one") + one % (b"", b"two") + one % (b"Connection: close\r\n", b"end")
        answer = self.raw(text)
        self.assertEqual(re.findall(b"one|two|end", answer), [b"one", b"two", b"end"])
        with socket.create_connection(("127.0.0.1", self.port), timeout=LONG) as plug:
            plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in one % (b"Connection: close\r\n", b"end"):
                plug.sendall(bytes([byte]))
            self.assertIn(b"end", plug.makefile("rb").read())

    def test_a_client_that_has_said_all_still_gets_its_answer(self):
        sid = self.login().encode()
        answer = self.raw(b"GET /big HTTP/1.1\r\nHost: x\r\nCookie: sid=" + sid + b"\r\n\r\n", shut=True)
        self.assertGreater(len(answer), 16 << 18)

    def test_what_could_be_read_in_two_ways_is_refused(self):
        cookie = b"Cookie: sid=" + self.login().encode() + b"\r\n"
        before = len(Application.seen)
        for status, text in [
            (400, b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
            (400, b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n"),
            (400, b"POST / HTTP/1.1\r\nContent-Length: -3\r\n"),
            (400, b"POST / HTTP/1.1\r\nContent-Length : 3\r\n"),
            (400, b"POST / HTTP/1.1\r\nX: 1\r\n Content-Length: 3\r\n"),
            (400, b"POST / HTTP/1.1\r\nX: 1\nContent-Length: 3\r\n"),
            (400, b"POST / HTTP/1.1\r\nX: \0\r\n"),
            (501, b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n"),
            (501, b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
            (400, b"GET http://elsewhere/ HTTP/1.1\r\n"),
            (505, b"GET / HTTP/1.0\r\n"),
            (505, b"GET / HTTP/2.0\r\n"),
            (400, b"GET\r\n"),
            (400, b"GET / HTTP/1.1\r\nCookie: sid=another\r\n"),
            # These only an application might find.
            (400, b"GET / HTTP/1.1\r\nCookie: x=1 sid=another\r\n"),
            (400, b"GET / HTTP/1.1\r\nCookie: \xc2\xa0sid\xa0=another\r\n"),
            (400, b"GET / HTTP/1.1\r\nCookie: x=1,SID=another\r\n"),
            (400, b"GET / HTTP/1.1\r\nCookie: s%69d=another\r\n"),
            (400, b"GET / HTTP/1.1\r\nCookie: +sid=another\r\n"),
            (400, b"GET / HTTP/1.1\r\nCookie: x=1; %20+%0asid=another\r\n"),
            (400, b"GET / HTTP/1.1\r\nCookie: sid%20%09=another\r\n"),
            (400, b"GET / HTTP/1.1\r\nCookie: sid %00=another\r\n"),
            (400, b"GET / HTTP/1.1\r\nCookie: sid%00anything else=another\r\n"),
            (400, b"GET / HTTP/1.1\r\nCookie: sid%00\r\n"),
            (431, b"GET / HTTP/1.1\r\nX: " + b"x" * 20000 + b"\r\n"),
        ]:
            with self.subTest(text=text[:60]):
                self.assertTrue(self.raw(text + cookie + b"\r\n").startswith(b"HTTP/1.1 %d " % status))
        self.assertEqual(len(Application.seen), before)
        other = b"GET / HTTP/1.1\r\nConnection: close\r\nCookie: next=/page?sid=1; sidx=1; \xc3\xa9=sid=2; a=+sid=3\r\n"
        other += b"Cookie: sid%2b1=1; side%00=1; %2=sid\r\n"
        self.assertTrue(self.raw(other + cookie + b"\r\n").startswith(b"HTTP/1.1 200 "))

    def test_a_body_that_breaks_the_rules_of_chunks_is_cut_off(self):
        head = b"POST /echo HTTP/1.1\r\nCookie: sid=" + self.login().encode() + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
        for body in [b"x\r\n", b"3\r\nabcd\r\n0\r\n\r\n", b"ffffffffffffffff\r\n", b"3\nabc\r\n0\r\n\r\n", b"0\r\nX\n\r\n\r\n"]:
            with self.subTest(body=body):
                self.assertTrue(self.raw(head + body, shut=True).startswith(b"HTTP/1.1 400 "))

    def test_headers_of_this_connection_are_not_passed_on(self):
        sid = self.login()
        self.request(self.connect(), "GET", "/", sid=sid, Connection="keep-alive, X-Mine", X_Mine="1", Upgrade="h2c",
                     Curfew_Subject="root", **{"X-Mine": "1", "Curfew-Subject": "root"})
        passed = Application.seen[-1].headers
        self.assertIsNone(passed["X-Mine"])
        self.assertIsNone(passed["Upgrade"])
        self.assertIsNone(passed["Curfew-Subject"])

    def test_a_connection_is_made_into_nothing_but_a_websocket(self):
        # Of anything else the requests would not be decided about.
        sid, connection = self.login(), self.connect()
        self.request(connection, "GET", "/", sid=sid, Connection="Upgrade", Upgrade="h2c")
        self.request(connection, "GET", "/", sid=sid, Connection="Upgrade", Upgrade="websocket, h2c")
        self.request(connection, "GET", "/", sid=sid, Upgrade="websocket")
        self.request(connection, "POST", "/", b"body", sid=sid, Connection="Upgrade", Upgrade="websocket")
        for request in Application.seen[-4:]:
            self.assertIsNone(request.headers["Upgrade"])
        self.assertEqual(self.request(connection, "GET", "/unasked", sid=sid).status, 502)

    def test_an_application_that_fails_is_told_from_a_session_that_has_ended(self):
        sid = self.login()
        self.assertEqual(self.request(self.connect(), "GET", "/nonsense", sid=sid).status, 502)
        with self.assertRaises(http.client.IncompleteRead):
            self.request(self.connect(), "GET", "/truncated", sid=sid)
        self.assertEqual(self.request(self.connect(), "GET", "/", sid=sid).status, 200)

    def test_logging_out_ends_the_session_for_good(self):
        sid = self.login()
        self.assertEqual(self.request(self.connect(), "GET", "/logout", sid=sid).status, 200)
        self.assertEqual(self.request(self.connect(), "GET", "/", sid=sid).whole, b"no session: logout\n")

    def test_a_new_id_takes_over_and_the_old_one_answers_for_a_moment(self):
        old = self.login()
        response = self.request(self.connect(), "GET", "/new-id", sid=old)
        new = re.search("sid=([0-9a-f]+)", ", ".join(response.headers.get_all("Set-Cookie")))[1]
        self.assertNotEqual(new, old)
        self.assertEqual(self.request(self.connect(), "GET", "/", sid=new).status, 200)
        self.assertEqual(self.request(self.connect(), "GET", "/", sid=old).status, 200)
        self.assertIn("rotated", self.tool("list").stdout)

    def test_many_at_once(self):
        def work(who):
            connection = self.connect()
            sid = self.login(who, connection)
            for n in range(20):
                body = b"%d" % n * 1000
                if self.request(connection, "POST", "/echo", body, sid=sid).whole != body:
                    return False
            return True
        results = [None] * 16
        threads = [threading.Thread(target=lambda n=n: results.__setitem__(n, work(f"user{n}"))) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
        self.assertEqual(results, [True] * 16)


class Cookies(Case):
    """What the cookies of requests and responses do to sessions."""

    dates = ("%a, %d %b %Y %H:%M:%S GMT", "%a, %d-%b-%Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT",
             "%a %b %d %H:%M:%S %Y")

    def test_a_login_as_somebody_else_ends_the_session_and_begins_another(self):
        carol, dave = self.login("carol"), secrets.token_hex(16)
        self.assertEqual(self.told("/login", f"sid={dave}", sid=carol, subject="dave").status, 200)
        self.assertEqual((self.judged(carol), self.judged(dave)), (b"no session: logout\n", b"hello"))
        self.assertEqual(self.tool("end-subject", "carol").returncode, 1)
        self.assertEqual(self.tool("end-subject", "dave").stdout, "1\n")
        self.assertEqual(self.judged(dave), b"no session: revoked\n")

    def test_a_login_ends_the_session_of_nobody_that_was_there_before(self):
        nobody, erin = secrets.token_hex(16), secrets.token_hex(16)
        self.assertEqual(self.told("/login", f"sid={nobody}").status, 200)
        self.assertEqual(self.told("/login", f"sid={erin}", sid=nobody, subject="erin").status, 200)
        self.assertEqual((self.judged(nobody), self.judged(erin)), (b"no session: logout\n", b"hello"))
        self.assertEqual(self.tool("end-subject", "erin").stdout, "1\n")

    def test_a_new_id_for_the_same_user_goes_on_with_the_session(self):
        others = [self.login("frank") for _ in range(20)]  # the first of them is listed last
        for more in ({"subject": "frank"}, {}):
            old, new = others[0], secrets.token_hex(16)
            others[0] = new
            self.assertEqual(self.told("/", f"sid={new}", sid=old, **more).status, 200)
            self.assertEqual((self.judged(old), self.judged(new)), (b"hello", b"hello"))
        self.assertEqual(self.tool("end-subject", "frank").stdout, "20\n")

    def test_the_same_id_goes_on_for_the_same_user_only(self):
        grace = self.login("grace")
        self.assertEqual(self.told("/", f"sid={grace}", sid=grace, subject="grace").status, 200)
        self.assertEqual(self.judged(grace), b"hello")
        response = self.told("/login", f"sid={grace}", sid=grace, subject="heidi")
        self.assertEqual((response.status, response.headers["Set-Cookie"]), (503, None))
        self.assertEqual(self.judged(grace), b"no session: logout\n")

    def test_an_id_that_does_not_pass_does_not_reach_the_application(self):
        def passed_on(cookies):
            head = "GET /login?x HTTP/1.1\r\nConnection: close\r\n" + "".join(f"Cookie: {one}\r\n" for one in cookies)
            self.assertEqual(self.raw((head + "\r\n").encode())[:13], b"HTTP/1.1 200 ")
            return Application.seen[-1].headers.get_all("Cookie", [])

        dead, live = self.login(), self.login()
        self.assertEqual(self.request(self.connect(), "GET", "/logout", sid=dead).status, 200)
        for sid in (dead, "made-up", ""):
            self.assertEqual(passed_on([f"sid={sid}"]), [])
            self.assertEqual(passed_on([f"a=1; sid={sid}; b=2"]), ["a=1; b=2"])
            self.assertEqual(passed_on([f"a=1;b=2 ; sid = {sid}"]), ["a=1; b=2"])
            self.assertEqual(passed_on(["a=sid; sidx=1", f"sid={sid};", "b"]), ["a=sid; sidx=1", "b"])
            self.assertEqual(passed_on(["a;" * 3000, f"sid={sid}"]), ["; ".join("a" * 3000)])
        self.assertEqual(passed_on([f"a=1;sid={live};"]), [f"a=1;sid={live};"])

    def test_an_id_is_found_among_other_cookies(self):
        sid = self.login()
        for cookies in (f"sid={sid}; a=1", f"a=1; sid={sid}; b=2", f"sid={sid}\r\nCookie: a=1", f"a; sid={sid}; b=;"):
            head = f"GET / HTTP/1.1\r\nConnection: close\r\nCookie: {cookies}\r\n\r\n"
            self.assertEqual(self.raw(head.encode())[:13], b"HTTP/1.1 200 ", cookies)

    def test_an_id_that_the_client_brought_does_not_begin(self):
        dead = self.login()
        self.assertEqual(self.request(self.connect(), "GET", "/logout", sid=dead).status, 200)
        for sid, why in ((dead, b"no session: logout\n"), ("brought", b"no session: unknown\n")):
            response = self.told("/login", f"sid={sid}", sid=sid, subject="ivan")
            self.assertEqual((response.status, response.headers["Set-Cookie"]), (503, None))
            self.assertEqual(self.judged(sid), why)
        new = secrets.token_hex(16)
        self.assertEqual(self.told("/login", f"sid={new}", sid="brought").status, 200)
        self.assertEqual(self.judged(new), b"hello")

    def test_a_cookie_is_cleared_in_many_ways(self):
        past = [time.strftime(date, time.gmtime(time.time() - 3600)) for date in self.dates]
        for cookie in ["sid=", 'sid=""', 'sid=""; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/',
                       "sid=deleted; expires=Thu, 01-Jan-1970 00:00:01 GMT; Max-Age=0; path=/", "sid=x; max-age = -1",
                       "sid=x; Max-Age=60; Max-Age=00", *(f"sid=x; Expires={date}" for date in past),
                       f"sid=x; Max-Age=soon; Expires={past[0]}"]:
            with self.subTest(cookie=cookie):
                sid = self.login()
                self.assertEqual(self.told("/", cookie, sid=sid).whole, b"told")
                self.assertEqual(self.judged(sid), b"no session: logout\n")
                # Where there is no session there is nothing to clear, and nothing begins.
                self.assertEqual(self.told("/login", cookie).whole, b"told")
                for value in ("x", "deleted", '""'):
                    self.assertEqual(self.judged(value), b"no session: unknown\n")

    def test_a_cookie_that_lasts_is_not_cleared(self):
        past, future = (time.strftime(self.dates[0], time.gmtime(time.time() + ahead)) for ahead in (-3600, 3600))
        soon = [time.strftime(date, time.gmtime(time.time() + 3600)) for date in self.dates]
        for attributes in [f"Max-Age=60; Expires={past}", f"Expires={past}; Max-Age=60",
                           f"Expires={past}; Expires={future}", "Max-Age=60; Max-Age=", "Max-Age=",
                           "Max-Age=-", "Max-Age=0x", "Expires=yesterday", "Expires=0", "Expires=",
                           "Expires=Thu, 01 Jan 99 00:00:00 GMT", "Expires", "x=Max-Age=0", "Expires=" + past * 20,
                           *(f"Expires={date}" for date in soon)]:
            with self.subTest(attributes=attributes):
                new = secrets.token_hex(16)
                self.assertEqual(self.told("/login", f"sid={new}; {attributes}").status, 200)
                self.assertEqual(self.judged(new), b"hello")

    def test_of_several_cookies_the_last_that_is_not_cleared_counts(self):
        for before in (None, self.login("judy")):
            first, last = secrets.token_hex(16), secrets.token_hex(16)
            cookies = ["sid=; Path=/a", f"sid={first}", "sid=x; Max-Age=0; path=/b", f"sid={last}; HttpOnly", "other=1",
                       "sid=; Path=/a"]
            self.assertEqual(self.told("/login", *cookies, sid=before).status, 200)
            self.assertEqual((self.judged(first), self.judged(last)), (b"no session: unknown\n", b"hello"))
        self.assertEqual(self.judged(before), b"hello")  # it was replaced, not ended
        self.assertEqual(self.told("/", "sid=", "sid=x; Max-Age=0", sid=last).status, 200)
        self.assertEqual(self.judged(last), b"no session: logout\n")

    def test_an_id_that_is_taken_away_and_given_anew_is_another_sessions(self):
        for path in ("", "; Path=/"):
            nick, new = self.login("nick"), secrets.token_hex(16)
            self.assertEqual(self.told("/", "sid=; Max-Age=0" + path, f"sid={new}" + path, sid=nick).status, 200)
            self.assertEqual((self.judged(nick), self.judged(new)), (b"no session: logout\n", b"hello"))

    def test_what_has_ended_a_moment_ago_is_not_begun_anew(self):
        # The proxy finds both responses at once, that of the logout first.
        def refused(**more):
            rita, new = self.login("rita"), secrets.token_hex(16)
            with self.held() as held:
                out = held.told("/", "sid=", sid=rita)
                anew = held.told("/", "sid=; Max-Age=0", f"sid={new}", sid=rita, **more)
            self.assertEqual(out().status, 200)
            try:
                status = anew().status
            except http.client.RemoteDisconnected:
                status = None  # On a slow machine it may come later, and is cut with its session.
            self.assertEqual(self.judged(new), b"no session: unknown\n")
            self.assertEqual(self.tool("end-subject", "rita").returncode, 1)
            return status

        for more in ({"subject": "rita"}, {}):
            for _ in range(20):
                status = refused(**more)
                if status is not None:
                    break
            self.assertEqual(status, 503)

    def test_a_cookie_of_another_domain_is_another(self):
        olga, new = self.login("olga"), secrets.token_hex(16)
        elsewhere = "sid=; Max-Age=0; Domain=.example.com; Path=/"
        self.assertEqual(self.told("/", elsewhere, f"sid={olga}; Path=/", sid=olga).status, 200)
        self.assertEqual(self.told("/", "sid=; Path=/", f"sid={olga}; Path=/", sid=olga).status, 200)
        self.assertEqual(self.judged(olga), b"hello")
        self.assertEqual(self.told("/", elsewhere, f"sid={new}; Path=/", sid=olga).status, 200)
        self.assertEqual((self.judged(olga), self.judged(new)), (b"hello", b"hello"))  # for the overlap

    def test_a_login_that_fails_begins_nothing(self):
        ids = [secrets.token_hex(16) for _ in range(5)]
        for sid, status in zip(ids, (400, 401, 403, 503)):
            response = self.told("/login", f"sid={sid}", status=status, subject="kim")
            self.assertEqual((response.status, response.whole), (status, b"told"))
            self.assertEqual(self.judged(sid), b"no session: unknown\n")
        self.assertEqual(self.told("/login", f"sid={ids[0]}", status=302, subject="kim").status, 302)
        self.assertEqual(self.judged(ids[0]), b"hello")
        # What happens to a session that there is does not depend on the status.
        self.assertEqual(self.told("/", f"sid={ids[1]}", status=404, sid=ids[0]).status, 404)
        self.assertEqual(self.judged(ids[1]), b"hello")
        self.assertEqual(self.told("/", "sid=", status=500, sid=ids[1]).status, 500)
        self.assertEqual(self.judged(ids[1]), b"no session: logout\n")

    def test_a_login_as_somebody_else_that_fails_ends_the_session_and_begins_nothing(self):
        leo, new = self.login("leo"), secrets.token_hex(16)
        self.assertEqual(self.told("/login", f"sid={new}", sid=leo, status=401, subject="mia").status, 401)
        self.assertEqual((self.judged(leo), self.judged(new)), (b"no session: logout\n", b"no session: unknown\n"))

    def test_what_comes_before_the_response_sets_no_cookie(self):
        early, final = secrets.token_hex(16), secrets.token_hex(16)
        query = urllib.parse.urlencode([("early", f"sid={early}"), ("early", "other=1"), ("set", f"sid={final}")])
        answer = self.raw(f"GET /login?{query} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
        hints, head, body = answer.split(b"\r\n\r\n")
        self.assertEqual(hints.split(b"\r\n"), [b"HTTP/1.1 103 Early Hints", b"Link: </style.css>; rel=preload"])
        self.assertEqual(re.findall(b"Set-Cookie: (.*)\r", head + b"\r"), [f"sid={final}".encode()])
        self.assertEqual((head[:13], body), (b"HTTP/1.1 200 ", b"told"))
        self.assertEqual((self.judged(early), self.judged(final)), (b"no session: unknown\n", b"hello"))

    def test_a_client_that_asks_first_is_told_to_go_on(self):
        head = b"POST /login HTTP/1.1\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self.port), timeout=LONG) as plug:
            plug.sendall(head)
            answer = plug.makefile("rb")
            self.assertEqual((answer.readline(), answer.readline()), (b"HTTP/1.1 100 Continue\r\n", b"\r\n"))
            plug.sendall(b"peggy")
            self.assertEqual(answer.readline(), b"HTTP/1.1 200 OK\r\n")
        self.assertEqual(self.tool("end-subject", "peggy").stdout, "1\n")

    def upgrade(self, path, sid, **more):
        query = urllib.parse.urlencode({"status": 101, **more})
        head = f"GET {path}?{query} HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        return self.raw(f"{head}Cookie: sid={sid}\r\n\r\n".encode(), shut=True).partition(b"\r\n")[0]

    def test_no_connection_becomes_a_websocket_without_a_session_that_can_end_it(self):
        sid, new = self.login(), secrets.token_hex(16)
        self.assertEqual(self.upgrade("/", sid), b"HTTP/1.1 101 Switching Protocols")
        self.assertEqual(self.upgrade("/", sid, set=f"sid={new}"), b"HTTP/1.1 101 Switching Protocols")
        self.assertEqual(self.upgrade("/", new, set="sid="), b"HTTP/1.1 401 Unauthorized")
        self.assertEqual(self.judged(new), b"no session: logout\n")
        self.assertEqual(self.upgrade("/login", new), b"HTTP/1.1 401 Unauthorized")

    def test_of_two_new_ids_for_one_old_one_the_later_goes_on(self):
        old, first, second = (secrets.token_hex(16) for _ in range(3))
        self.assertEqual(self.told("/login", f"sid={old}", subject="nina").status, 200)
        self.assertEqual(self.told("/", f"sid={first}", sid=old).status, 200)
        self.assertEqual(self.told("/", f"sid={second}", sid=old).status, 200)
        self.assertEqual((self.judged(first), self.judged(second)), (b"hello", b"hello"))
        # An id that is set again is no new one.
        self.assertEqual(self.told("/", f"sid={old}", sid=old).status, 200)
        self.assertEqual(self.told("/", f"sid={second}", sid=old, subject="nina").status, 200)
        self.assertEqual(self.tool("end-subject", "nina").stdout, "1\n")

    def test_a_logout_under_an_id_that_was_replaced_meanwhile_ends_the_session(self):
        old, new = self.login("olga"), secrets.token_hex(16)
        self.assertEqual(self.told("/", f"sid={new}", sid=old).status, 200)
        # It came while the old id still answered, and is answered when it does not any more.
        self.assertEqual(self.told("/", "sid=", sid=old, after=5.5).whole, b"told")
        self.assertEqual(self.judged(new), b"no session: logout\n")


class OtherProcess(Case):
    def test_two_proxies_may_give_a_session_a_new_id_at_once(self):
        other, port = self.run_proxy()
        self.addCleanup(self.stop_proxy, other)
        for _ in range(400):  # looking through them takes its time
            self.login("sybil")
        for nth in range(40):
            sids = [self.login("sybil") for _ in range(6)]
            with self.held(self.proxy, other) as held:
                answers = [held.told("/", f"sid={secrets.token_hex(16)}", sid=sid, port=to, subject="sybil")
                           for sid in sids for to in (self.port, port)]
            self.assertEqual([answer().status for answer in answers], [200] * len(answers), f"round {nth}")
        self.assertEqual(self.tool("end-subject", "sybil").stdout, "640\n")

    def test_the_tool_sees_and_ends_what_the_proxy_started(self):
        mallory, alice = self.login("mallory"), self.login("alice")
        listed = self.tool("list")
        self.assertEqual(listed.returncode, 0, listed.stderr)
        self.assertEqual(len(re.findall("active", listed.stdout)), 2)
        self.assertNotIn(mallory, listed.stdout)

        self.assertEqual(self.tool("end-subject", "mallory").stdout, "1\n")
        self.assertEqual(self.tool("end-subject", "nobody").returncode, 1)
        self.assertEqual(self.request(self.connect(), "GET", "/", sid=mallory).whole, b"no session: revoked\n")
        self.assertEqual(self.request(self.connect(), "GET", "/", sid=alice).status, 200)

        key = re.search("([0-9a-f]{32}) active", self.tool("list").stdout)[1]
        self.assertEqual(self.tool("end", key).returncode, 0)
        self.assertEqual(self.tool("end", key).returncode, 1)
        self.assertEqual(self.tool("end", "zz").returncode, 2)
        self.assertEqual(self.request(self.connect(), "GET", "/", sid=alice).whole, b"no session: revoked\n")
        events = self.tool("events").stdout
        self.assertIn(f"{key} ended revoked", events)
        self.assertIn("live=0 ", self.tool("stats").stdout)
        self.assertEqual(subprocess.run([*SESSIONS, "/nowhere", "list"], capture_output=True).returncode, 2)

    def test_a_download_stops_when_another_process_ends_its_session(self):
        sid, connection = self.login("carol"), self.connect()
        connection.request("GET", "/endless", headers={"Cookie": f"sid={sid}"})
        response = connection.getresponse()
        self.assertEqual(response.read(5), b"tick\n")
        self.assertEqual(self.tool("end-subject", "carol").stdout, "1\n")
        with self.assertRaises((http.client.IncompleteRead, ConnectionResetError)):
            response.read()


class Snapshots(Case):
    def test_sessions_survive_the_loss_of_their_region_in_a_larger_one(self):
        alice, bob = self.login("alice"), self.login("bob")
        file = os.path.join(self.directory.name, "app.snapshot")
        self.assertEqual(self.tool("end-subject", "bob").stdout, "1\n")
        self.assertIn("live=1 ended=1 ", self.tool("snapshot", file).stdout)
        self.assertEqual(self.request(self.connect(), "GET", "/", sid=alice).status, 200)
        refused = self.tool("restore", file)
        self.assertEqual(refused.returncode, 2)
        self.assertIn("exists", refused.stderr)
        self.assertEqual(self.request(self.connect(), "GET", "/", sid=alice).status, 200)

        self.stop_proxy()
        os.remove(self.region)
        self.assertRegex(self.tool("restore", file, "5000").stdout, r"^live=1 over=0 ended=1 downtime=\d+\n$")
        self.start_proxy()
        self.assertEqual(self.request(self.connect(), "GET", "/", sid=alice).whole, b"hello")
        self.assertEqual(self.request(self.connect(), "GET", "/", sid=bob).whole, b"no session: revoked\n")
        self.assertIn("capacity=5000 ", self.tool("stats").stdout)


@unittest.skipUnless("CURFEW_OTHER_VERSION" in os.environ, "there is no library of another version")
class Versions(Case):
    def test_a_process_with_another_version_is_refused_and_a_snapshot_leads_over(self):
        other = os.environ["CURFEW_OTHER_VERSION"]
        sid = self.login()
        refused = self.tool("list", library=other)
        self.assertEqual(refused.returncode, 2)
        self.assertRegex(refused.stderr, r"layout version \d+, this program uses 9\d+")
        self.assertEqual(self.request(self.connect(), "GET", "/", sid=sid).status, 200)

        file, region = (os.path.join(self.directory.name, name) for name in ("app.snapshot", "upgraded.region"))
        self.assertEqual(self.tool("snapshot", file).returncode, 0)
        self.assertIn("live=1 ", self.tool("restore", file, region=region, library=other).stdout)
        self.assertEqual(self.tool("list", region=region, library=other).stdout.count(" active "), 1)
        self.assertRegex(self.tool("list", region=region).stderr, r"layout version 9\d+, this program uses \d+")


class Idle(Case):
    idle = 1

    def test_an_idle_session_is_over_and_its_connection_closed_without_another_request(self):
        sid, connection = self.login(), self.connect()
        self.assertEqual(self.request(connection, "GET", "/", sid=sid).status, 200)
        connection.sock.settimeout(LONG)
        self.assertEqual(connection.sock.recv(1), b"")
        self.assertEqual(self.request(self.connect(), "GET", "/", sid=sid).whole, b"no session: idle\n")
        event = re.search(r"ended idle at=\d+ age=(\d+) idle=(\d+)", self.tool("events").stdout)
        self.assertEqual(event[2], "1000")

    def test_activity_keeps_a_session_alive(self):
        sid, connection = self.login(), self.connect()
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            self.assertEqual(self.request(connection, "GET", "/", sid=sid).status, 200)
            time.sleep(0.05)


class Open:
    """What is open of a session."""

    def __init__(self, case, sid):
        self.case, self.sid = case, sid

    async def get(self, path):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.case.port)
        self.writer.write(b"GET %s HTTP/1.1\r\nHost: x\r\nCookie: sid=%s\r\n\r\n" % (path.encode(), self.sid.encode()))
        head = await self.reader.readuntil(b"\r\n\r\n")
        self.case.assertTrue(head.startswith(b"HTTP/1.1 200 "), head)

    async def is_cut(self):
        try:
            while await self.reader.read(1 << 20):
                pass
        except ConnectionError:
            pass
        self.writer.close()


class Events(Open):
    async def open(self):
        await self.get("/events")
        await self.reader.readuntil(b"tick")


class SlowDownload(Open):
    """Its client has stopped to read."""

    async def open(self):
        await self.get("/huge")


class WebSocket(Open):
    def __init__(self, case, sid, path="/socket"):
        super().__init__(case, sid)
        self.path = path

    async def open(self):
        self.socket = await websockets.legacy.client.connect(
            f"ws://127.0.0.1:{self.case.port}{self.path}", extra_headers={"Cookie": f"sid={self.sid}"},
            ping_interval=None, open_timeout=LONG, close_timeout=LONG)

    async def say(self, text):
        await self.socket.send(text)
        self.case.assertEqual(await self.socket.recv(), text)

    async def is_cut(self):
        with self.case.assertRaises(websockets.exceptions.ConnectionClosedError):
            while True:
                await self.socket.recv()


KINDS = (WebSocket, Events, SlowDownload)


class OpenCase(Case):
    def run_open(self, scenario):
        asyncio.run(asyncio.wait_for(scenario, LONG))
        self.doCleanups()  # those that stay open for the next request
        self.until(lambda: self.open_descriptors() <= self.descriptors)

    async def all_are_cut(self, streams):
        await asyncio.gather(*(stream.is_cut() for stream in streams))

    def cuts(self, key=""):
        """The cuts of a session, or of all: cause, when, bytes."""
        found = re.findall(r"%s\S* cut (\w+) at=(\d+) .*bytes=(\d+)" % key, self.tool("events").stdout)
        return [(cause, int(at), int(sent)) for cause, at, sent in found]

    def last(self):
        """The last activity of the only live session, since its start."""
        age, idle = re.search(r" active .* age=(\d+) idle=(\d+) ", self.tool("list").stdout).groups()
        return int(age) - int(idle)


class Streams(OpenCase):
    def tearDown(self):
        for who in ("many", "out", "moving", "busy"):
            self.tool("end-subject", who)

    def test_hundreds_are_cut_when_another_process_ends_all_sessions_of_their_user(self):
        before, sids = len(self.cuts()), [self.login("many") for _ in range(3)]
        other = self.login("another")
        ended = Application.sockets_ended

        async def scenario():
            streams = [kind(self, sid) for sid in sids for kind in KINDS for _ in range(34)]
            stays = WebSocket(self, other)
            for stream in [*streams, stays]:
                await stream.open()
            for stream in streams:
                if isinstance(stream, WebSocket):
                    await stream.say("hello" * 1000)
            self.assertEqual(self.tool("end-subject", "many").stdout, "3\n")
            await self.all_are_cut(streams)
            await stays.say("still here")
            await stays.socket.close()
            self.assertEqual(stays.socket.close_code, 1000)
            return len(streams)

        self.run_open(scenario())
        cuts = self.cuts()[before:]
        self.assertEqual([cause for cause, _, _ in cuts], ["revoked"] * (3 * 3 * 34))
        self.assertTrue(all(sent > 0 for _, _, sent in cuts))
        end = int(re.findall(r"ended revoked at=(\d+)", self.tool("events").stdout)[-3])
        print(f"{len(cuts)} cut within {max(at for _, at, _ in cuts) - end} ms", file=sys.stderr)
        self.until(lambda: Application.sockets_ended == ended + 3 * 34 + 1)
        self.tool("end-subject", "another")

    def test_all_are_cut_by_a_logout_on_another_connection_which_is_answered(self):
        before, sid = len(self.cuts()), self.login("out")

        async def scenario():
            streams = [kind(self, sid) for kind in KINDS for _ in range(3)]
            for stream in streams:
                await stream.open()
            out = self.connect()
            response = self.request(out, "GET", "/logout", sid=sid)
            self.assertEqual((response.status, response.whole), (200, b"bye"))
            await self.all_are_cut(streams)
            out.close()

        self.run_open(scenario())
        self.assertEqual([cause for cause, _, _ in self.cuts()[before:]], ["logout"] * 9)

    def test_a_new_id_cuts_nothing(self):
        old = self.login("moving")

        async def scenario():
            streams = [kind(self, old) for kind in KINDS]
            for stream in streams:
                await stream.open()
            connection = self.connect()
            self.request(connection, "GET", "/new-id", sid=old)
            self.until(lambda: b"rotated" in self.request(connection, "GET", "/", sid=old).whole)
            connection.close()
            await streams[0].say("still here")
            await streams[1].reader.readuntil(b"tick")
            self.assertEqual(self.tool("end-subject", "moving").stdout, "1\n")
            await self.all_are_cut(streams)

        self.run_open(scenario())

    def test_bytes_from_the_client_are_activity_and_bytes_to_it_are_none(self):
        sid = self.login("busy")

        async def scenario():
            quiet, talkative = WebSocket(self, sid), WebSocket(self, sid, "/talkative")
            await quiet.open()
            await talkative.open()
            last = self.last()
            for _ in range(5):
                self.assertEqual(await talkative.socket.recv(), "tick")
            self.assertEqual(self.last(), last)
            await quiet.say("hello")
            self.assertGreater(self.last(), last)
            last = self.last()
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(b"POST /echo HTTP/1.1\r\nHost: x\r\nCookie: sid=%s\r\nContent-Length: 6\r\n\r\n" % sid.encode())
            while self.last() == last:
                await asyncio.sleep(0.01)
            last = self.last()
            writer.write(b"abc")
            while self.last() == last:
                await asyncio.sleep(0.01)
            writer.write(b"def")
            self.assertTrue((await reader.readuntil(b"abcdef")).startswith(b"HTTP/1.1 200"))
            writer.close()
            await quiet.socket.close()
            await talkative.socket.close()

        self.run_open(scenario())

    def test_an_upgrade_needs_a_session_and_may_be_declined(self):
        headers = {"Connection": "Upgrade", "Upgrade": "websocket"}
        self.assertEqual(self.request(self.connect(), "GET", "/socket", **headers).status, 401)
        sid, connection = self.login("busy"), self.connect()
        for _ in range(2):
            response = self.request(connection, "GET", "/", sid=sid, **headers)
            self.assertEqual((response.status, response.whole), (200, b"hello"))
        self.assertEqual(Application.seen[-1].headers["Upgrade"], "websocket")


class IdleStreams(OpenCase):
    idle = 3

    def test_what_is_open_ends_by_the_idle_timeout_when_its_client_is_silent(self):
        async def scenario():
            sids = [self.login("idle") for _ in range(4)]
            streams = [*(kind(self, sid) for kind, sid in zip(KINDS, sids)), WebSocket(self, sids[3], "/talkative")]
            await asyncio.gather(*(stream.open() for stream in streams))
            await self.all_are_cut(streams)

        self.run_open(scenario())
        cuts = self.cuts()
        self.assertEqual([cause for cause, _, _ in cuts], ["idle"] * 4)
        ends = [int(at) for at in re.findall(r"ended idle at=(\d+)", self.tool("events").stdout)]
        print(f"cut within {max(at for _, at, _ in cuts) - min(ends)} ms of the first end", file=sys.stderr)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=1)
