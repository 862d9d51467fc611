#!/usr/bin/env python3
"""What a check costs in nginx, added to a tiny answer (empty_gif), beside what people use today.

    bench.py cpu            the worker's CPU time per request, in paired and interleaved rounds of wrk
    bench.py instructions   instructions per request, counted by callgrind; needs no quiet machine

Variants: plain (twice: the second, A/A, tells the noise), curfew, limit_req, a Lua dictionary, auth_request
to a local service; each with a million sessions (keys), of which every request takes one at random. Those
whose module is not installed are left out. "without streams" is curfew with curfew_streams off. ONLY, names with
commas between them, leaves the others out.
"""

import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODULE = ROOT / "target/release/ngx_http_curfew_module.so"
LUA = pathlib.Path("/usr/lib/nginx/modules/ngx_http_lua_module.so")
NDK = pathlib.Path("/usr/lib/nginx/modules/ndk_http_module.so")
ROUNDS = int(os.environ.get("ROUNDS", "12"))
SECONDS = int(os.environ.get("SECONDS_A_ROUND", "3"))
SESSIONS = int(os.environ.get("SESSIONS", "1000000"))

LUA_CHECK = """access_by_lua_block {
    local d = ngx.shared.sessions
    local id = ngx.var.cookie_sid
    if not id then return ngx.exit(401) end
    local last = d:get(id)
    if not last or ngx.now() - last > 900 then return ngx.exit(401) end
    d:set(id, ngx.now(), 900)
}"""


def variants():
    found = {
        "plain": "",
        "plain again": "",
        "curfew": "curfew zone=app policy=staff;",
        "without streams": "curfew zone=app policy=staff; curfew_streams off;",
        "limit_req": "limit_req zone=limit burst=100000000 nodelay;",
        "auth_request": "auth_request /check;",
    }
    if LUA.exists():
        found["lua dictionary"] = LUA_CHECK
    only = os.environ.get("ONLY")
    return {name: body for name, body in found.items() if not only or name == "plain" or name in only.split(",")}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def configuration(folder, port, service, one_process):
    locations = "\n".join(
        f"location = /v{number} {{ {body} empty_gif; }}" for number, body in enumerate(variants().values())
    )
    lua = f"load_module {NDK}; load_module {LUA};" if LUA.exists() else ""
    dictionary = "lua_shared_dict sessions 384m;" if LUA.exists() else ""
    seed = ("location = /seed-lua { content_by_lua_block { for n = 0, " + str(SESSIONS - 1) +
            " do ngx.shared.sessions:set('s' .. n, ngx.now(), 3600) end } }")
    process = "master_process off;" if one_process else "worker_processes 1;"
    return f"""
daemon off; {process} pid {folder}/pid; error_log {folder}/error.log;
{"" if os.geteuid() else "user www-data;"}
load_module {MODULE}; {lua}
events {{ worker_connections 1024; }}
http {{
    access_log off; keepalive_requests 1000000000; {dictionary}
    client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
    curfew_zone zone=app:128m; curfew_policy staff idle=15m lifetime=8h;
    curfew_id $cookie_sid;
    limit_req_zone $cookie_sid zone=limit:256m rate=1000000r/s;
    server {{
        listen 127.0.0.1:{port};
        {locations}
        location = /fill {{ curfew_id $arg_id; curfew zone=app policy=staff; curfew_unknown start; empty_gif; }}
        location = /check {{ internal; proxy_pass http://127.0.0.1:{service}/; proxy_pass_request_body off; }}
        {seed if LUA.exists() else ""}
    }}
    server {{ listen 127.0.0.1:{service}; location / {{ empty_gif; }} }}
}}
"""


class Client:
    """Keeps one connection, and asks for things on it in batches."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, paths):
        for start in range(0, len(paths), 100):
            batch = paths[start : start + 100]
            self.socket.sendall(b"".join(
                f"GET {path} HTTP/1.1\r\nHost: x\r\nCookie: sid=s0\r\n\r\n".encode() for path in batch))
            answers = b""
            while answers.count(b"HTTP/1.1 ") < len(batch) or not answers.endswith(b";"):
                answers += self.socket.recv(1 << 16)
            if answers.count(b"HTTP/1.1 200") != len(batch):
                sys.exit(f"not all were answered 200: {answers[:300]!r}")


class Nginx:
    def __init__(self, folder, before=(), one_process=False):
        self.port, service = free_port(), free_port()
        path = pathlib.Path(folder) / "nginx.conf"
        path.write_text(configuration(folder, self.port, service, one_process))
        command = [*before, shutil.which("nginx") or "/usr/sbin/nginx", "-c", str(path), "-p", folder]
        self.process = subprocess.Popen([*command, "-e", f"{folder}/error.log"])
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                break
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    sys.exit(f"nginx did not start: {(pathlib.Path(folder) / 'error.log').read_text()}")
                time.sleep(0.01)

    def worker(self):
        pid = self.process.pid
        return int(pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def stop(self):
        self.process.terminate()
        self.process.wait(60)


def prepare(client, sessions):
    client.ask([f"/fill?id=s{number}" for number in range(sessions)])
    if LUA.exists():
        with_lua = Client(client.socket.getpeername()[1])
        with_lua.socket.sendall(b"GET /seed-lua HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while with_lua.socket.recv(1 << 16):
            pass


def cpu_seconds(pid):
    return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def cpu():
    if not shutil.which("wrk"):
        sys.exit("wrk is missing: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        nginx = Nginx(folder)
        prepare(Client(nginx.port), SESSIONS)
        pid, names = nginx.worker(), list(variants())
        script = pathlib.Path(folder) / "any.lua"
        script.write_text(f"""
math.randomseed(os.time())
request = function() return wrk.format(nil, nil, {{["Cookie"] = "sid=s" .. math.random(0, {SESSIONS - 1})}}) end
""")
        costs, rates, latencies = ({name: [] for name in names} for _ in range(3))
        for turn in range(ROUNDS):
            order = names if turn % 2 == 0 else names[::-1]
            for name in order:
                before = cpu_seconds(pid)
                output = subprocess.run(
                    ["wrk", "-t1", "-c16", f"-d{SECONDS}s", "--latency", "-s", str(script),
                     f"http://127.0.0.1:{nginx.port}/v{names.index(name)}"],
                    capture_output=True, text=True, check=True).stdout
                if "Non-2xx" in output:
                    sys.exit(f"{name}: {output}")
                lines = [line.split() for line in output.splitlines()]
                requests = next(int(line[0]) for line in lines if line[1:3] == ["requests", "in"])
                costs[name].append((cpu_seconds(pid) - before) / requests * 1e6)
                rates[name].append(next(float(line[1]) for line in lines if line[:1] == ["Requests/sec:"]))
                latencies[name].append(next(line[1] for line in lines if line[:1] == ["99%"]))
        nginx.stop()
    print(f"{ROUNDS} rounds of {SECONDS} s, {SESSIONS} sessions live; CPU time of the worker, us a request")
    print(f"{'':16} {'median':>8} {'added':>8} {'quartiles':>16} {'requests/s':>12} {'99 % within':>12}")
    for name in names:
        added = [a - b for a, b in zip(costs[name], costs["plain"])]
        low, middle, high = statistics.quantiles(added, n=4)
        print(f"{name:16} {statistics.median(costs[name]):8.2f} {middle:8.2f} {f'{low:.2f} - {high:.2f}':>16} "
              f"{statistics.median(rates[name]):12.0f} {latencies[name][-1]:>12}", flush=True)


def instructions_of(number, requests, sessions):
    """Instructions of a whole run with so many requests."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        out = f"{folder}/callgrind.out"
        nginx = Nginx(folder, ["valgrind", "--tool=callgrind", "-q", "--vgdb=no", f"--callgrind-out-file={out}"], True)
        client = Client(nginx.port)
        prepare(client, sessions)
        client.ask([f"/v{number}"] * requests)
        nginx.stop()
        lines = pathlib.Path(out).read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith(("summary:", "totals:"))))


def instructions():
    if not shutil.which("valgrind"):
        sys.exit("valgrind is missing: apt-get install valgrind")
    few, many, sessions = 1000, 11000, 1000
    print(f"instructions per request, from {many - few} requests ({sessions} sessions live)")
    plain = None
    for number, name in enumerate(variants()):
        per = (instructions_of(number, many, sessions) - instructions_of(number, few, sessions)) / (many - few)
        plain = per if plain is None else plain
        print(f"{name:16} {per:9.0f} {per - plain:+9.0f}", flush=True)


if __name__ == "__main__":
    {"cpu": cpu, "instructions": instructions}[sys.argv[1] if len(sys.argv) > 1 else "cpu"]()
