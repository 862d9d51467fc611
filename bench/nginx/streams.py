#!/usr/bin/env python3
"""What it costs nginx to end what is open with its session, with 20,000 requests open on two workers.

Each is a request whose body does not come, so that nginx has nothing else to do. Shown with curfew_streams on
and off: memory; the workers' CPU time while nothing ends; while a hundred sessions with nothing open begin and
end every second; and, with it on, how long it takes until all are closed once all sessions have ended.
"""

import multiprocessing
import os
import pathlib
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODULE = ROOT / "target/release/ngx_http_curfew_module.so"
STREAMS = int(os.environ.get("STREAMS", "20000"))
SECONDS = int(os.environ.get("SECONDS_A_ROUND", "10"))
CLIENTS = 4


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def configuration(folder, port, streams):
    return f"""
daemon off; worker_processes 2; worker_rlimit_nofile 65536; pid {folder}/pid; error_log {folder}/error.log;
{"" if os.geteuid() else "user www-data;"}
load_module {MODULE};
events {{ worker_connections 32768; multi_accept off; }}
http {{
    access_log off; keepalive_requests 1000000000; client_body_timeout 1h; send_timeout 1h;
    client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
    curfew_zone zone=app:16m; curfew_policy staff idle=1h lifetime=8h;
    curfew_streams {streams};
    server {{
        listen 127.0.0.1:{port} backlog=4096 reuseport;
        location = /hold {{ curfew_id $cookie_sid; curfew zone=app policy=staff; proxy_pass http://127.0.0.1:1; }}
        location = /begin {{ curfew_id $arg_id; curfew zone=app policy=staff; curfew_unknown start; empty_gif; }}
        location = /end {{ curfew_id $arg_id; curfew zone=app policy=staff; curfew_end logout; empty_gif; }}
        location = /curfew {{ curfew_admin; }}
    }}
}}
"""


class Client:
    """Keeps one connection, and asks for one thing after the other."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, path, method="GET"):
        self.socket.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        answer = self.socket.recv(1 << 16)
        if not answer.startswith(b"HTTP/1.1 200"):
            sys.exit(f"{path}: {answer[:300]!r}")


def hold(port, first, count, ready, done):
    """A process that opens requests, says so, waits until they are closed, and says when the last one was."""
    client = Client(port)
    poll = select.poll()
    open_ones = {}
    for number in range(first, first + count):
        client.ask(f"/begin?id=s{number}")
        one = socket.create_connection(("127.0.0.1", port))
        one.sendall(f"POST /hold HTTP/1.1\r\nHost: x\r\nCookie: sid=s{number}\r\nContent-Length: 1\r\n\r\n".encode())
        open_ones[one.fileno()] = one
        poll.register(one, select.POLLIN)
    ready.put(count)
    while open_ones:
        for number, _ in poll.poll():
            if open_ones[number].recv(1 << 16):
                sys.exit("a request was answered")
            poll.unregister(number)
            open_ones.pop(number).close()
    done.put(time.monotonic())


def workers(pid):
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cpu_millis(pids):
    return sum(int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids) / 1e6


def private_bytes(pids):
    lines = (line for pid in pids for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines())
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_Dirty"))


def churn(port, seconds):
    client, until, number = Client(port), time.monotonic() + seconds, 0
    while time.monotonic() < until:
        client.ask(f"/begin?id=other{number}")
        client.ask(f"/end?id=other{number}")
        number += 1
        time.sleep(max(0, until - seconds + number / 100 - time.monotonic()))
    return number


def measure(streams):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        port = free_port()
        path = pathlib.Path(folder) / "nginx.conf"
        path.write_text(configuration(folder, port, streams))
        nginx = subprocess.Popen([shutil.which("nginx") or "/usr/sbin/nginx", "-c", str(path), "-e",
                                  f"{folder}/error.log"])
        while True:
            try:
                Client(port).ask("/curfew")
                break
            except OSError:
                if nginx.poll() is not None:
                    sys.exit((pathlib.Path(folder) / "error.log").read_text())
                time.sleep(0.01)
        pids = workers(nginx.pid)
        before = private_bytes(pids)
        ready, done = multiprocessing.Queue(), multiprocessing.Queue()
        each = STREAMS // CLIENTS
        clients = [multiprocessing.Process(target=hold, args=(port, number * each, each, ready, done))
                   for number in range(CLIENTS)]
        for client in clients:
            client.start()
        for _ in clients:
            ready.get()
        time.sleep(1)
        memory = (private_bytes(pids) - before) / (each * CLIENTS)

        def cpu_a_second(what):
            at, began = cpu_millis(pids), time.monotonic()
            what()
            return (cpu_millis(pids) - at) / (time.monotonic() - began)

        quiet = cpu_a_second(lambda: time.sleep(SECONDS))
        busy = cpu_a_second(lambda: churn(port, SECONDS))
        line = f"{streams:6} {memory:14.0f} {quiet:20.2f} {busy:22.2f}"
        if streams == "on":
            at, began = cpu_millis(pids), time.monotonic()
            Client(port).ask("/curfew?end_all=1", "POST")
            ended = time.monotonic()
            last = max(done.get() for _ in clients)
            line += (f"   all sessions ended after {(ended - began) * 1000:.0f} ms, the last request closed"
                     f" {(last - ended) * 1000:.0f} ms later; {cpu_millis(pids) - at:.0f} ms of CPU in all")
        print(line, flush=True)
        for client in clients:
            client.terminate()
            client.join()
        nginx.terminate()
        nginx.wait(60)


if __name__ == "__main__":
    print(f"{STREAMS} requests open on two workers; CPU time in ms a second, both workers together")
    print(f"{'':6} {'bytes a request':>14} {'nothing ends':>20} {'100 ends a second':>22}")
    for streams in ["off", "on", "off", "on"]:
        measure(streams)
