"""Puts frames on the lab's cables and says which frames came out where. See wire.ts for the other side.

One process for all places, on one processor, because that makes order certain: the cables have no queues, so a frame
that was sent before another has come to its end before the other has. The last frame of a batch is one that nobody
blocks; when it has arrived, whatever has not will not. So a dropped packet is known as such without waiting for it.

    wire-worker.py GATEWAY NAME=NAMESPACE/DEVICE...

One JSON line in, one JSON line out: {"close": [PORT...], "send": [STEP...], "until": [NAME, HEX]}. A step is
[NAME, BASE64], a frame that this device sends, or [null, {...}], a connection that a program on the gateway itself
tries to make. "until" names the device at which the last frame arrives, and the bytes at its end.
"""
import base64
import ctypes
import errno
import json
import os
import select
import socket
import struct
import sys
import time

CLONE_NEWNET = 0x40000000
ETH_P_ALL = 3
SO_RCVBUFFORCE = 33
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
TCP_ESTABLISHED = 1

libc = ctypes.CDLL(None, use_errno=True)


def enter(namespace):
    handle = os.open("/run/netns/" + namespace, os.O_RDONLY)
    if libc.setns(handle, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "cannot enter " + namespace)
    os.close(handle)


def tap(device):
    tapped = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    tapped.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    tapped.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    tapped.bind((device, ETH_P_ALL))
    tapped.setblocking(False)
    return tapped


taps = {}
connections = {}


def local(order):
    """One SYN of a program that runs as a user, by the kernel's own TCP; its end is asked for later."""
    family = socket.AF_INET6 if ":" in order["from"] else socket.AF_INET
    libc.setfsuid(order["uid"])
    try:
        made = socket.socket(family, socket.SOCK_STREAM)
    finally:
        libc.setfsuid(0)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Closed without a word to anybody but the other side, and without keeping the port.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    made.bind((order["from"], order["sport"]))
    connections[order["sport"]] = made, made.connect_ex((order["to"], order["port"]))


def state(made, error):
    error = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or error
    if error not in (0, errno.EINPROGRESS):
        return errno.errorcode.get(error, str(error))
    info = made.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return "connected" if info[0] == TCP_ESTABLISHED else "waiting"


def drain(arrived):
    for name, tapped in taps.items():
        while True:
            try:
                frame = tapped.recv(65536)
            except BlockingIOError:
                break
            arrived.append((name, frame))


def exchange(order):
    arrived = []
    before = time.time_ns()
    for count, (name, what) in enumerate(order["send"]):
        if name is None:
            local(what)
        else:
            taps[name].send(base64.b64decode(what))
        if count % 64 == 63:
            drain(arrived)
    place, mark = order["until"][0], bytes.fromhex(order["until"][1])
    deadline = time.monotonic() + 10
    seen = 0
    while True:
        drain(arrived)
        if any(name == place and frame.endswith(mark) for name, frame in arrived[seen:]):
            break
        seen = len(arrived)
        if time.monotonic() > deadline:
            raise TimeoutError("the last frame did not arrive")
        select.select(list(taps.values()), [], [], 0.5)
    after = time.time_ns()
    return {
        "before": before // 1_000_000,
        "after": -(-after // 1_000_000),
        "arrived": [[name, base64.b64encode(frame).decode()] for name, frame in arrived if not frame.endswith(mark)],
        "local": {str(sport): state(*one) for sport, one in connections.items()},
    }


def main():
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    gateway, *devices = sys.argv[1:]
    for described in devices:
        name, _, where = described.partition("=")
        namespace, _, device = where.partition("/")
        enter(namespace)
        taps[name] = tap(device)
    enter(gateway)
    for line in sys.stdin:
        order = json.loads(line)
        try:
            for sport in order.get("close", []):
                if sport in connections:
                    connections.pop(sport)[0].close()
            answer = exchange(order)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


main()
