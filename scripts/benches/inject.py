"""Lets packets arrive at a device as fast as the kernel can take them, and says what one of them costs.

    inject.py NAMESPACE DEVICE MAC SOURCE DESTINATION PORT SOURCES

TCP SYNs from so many SOURCES at random, a power of two and at most 65,536, the first being SOURCE, are put into the network stack by bpf(2), BPF_PROG_TEST_RUN with live frames, as if
the device had received them: nobody has to send them, so that what is measured is what the gateway does. For each line
with a number of packets it prints the nanoseconds of processor time that one of them took, all the way to where it is
dropped or taken off. Needs Linux 5.18 on x86-64 or arm64.
"""
import ctypes
import os
import platform
import socket
import struct
import sys
import time

SYS_BPF = {"x86_64": 321, "aarch64": 280}
PROG_LOAD, PROG_TEST_RUN = 5, 10
PROG_TYPE_XDP, XDP_PASS = 6, 2
LIVE_FRAMES = 2
CLONE_NEWNET = 0x40000000
GET_RANDOM = 7

libc = ctypes.CDLL(None, use_errno=True)


def bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes, 144)
    result = libc.syscall(SYS_BPF[platform.machine()], command, buffer, len(buffer))
    if result < 0:
        raise OSError(ctypes.get_errno(), "bpf: " + os.strerror(ctypes.get_errno()))
    return result


def enter(namespace):
    handle = os.open("/run/netns/" + namespace, os.O_RDONLY)
    if libc.setns(handle, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "cannot enter " + namespace)
    os.close(handle)


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def frame(mac, source, destination, port):
    """A SYN whose IPv4 identification is the complement of the source's lower half, so that both may change together."""
    low = struct.unpack("!H", source[2:])[0]
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, ~low & 0xFFFF, 0x4000, 64, 6, 0, source, destination)
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    pseudo = source + destination + struct.pack("!BBH", 0, 6, 20)
    tcp = struct.pack("!HHIIBBHHH", 40_000, port, 1, 0, 0x50, 2, 64_240, 0, 0)
    tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
    return bytes.fromhex(mac.replace(":", "")) + b"\2\0\0\0\0\1\x08\0" + head + tcp + bytes(6)


def program(packet, sources):
    """Writes again what forwarding has changed, as frames come back, and another source; then lets the packet go on."""

    def op(code, dst=0, src=0, offset=0, value=0):
        return struct.pack("<BBhi", code, dst | src << 4, offset, value)

    def store(offset, size):
        code = {2: 0x6A, 4: 0x62}[size]
        return op(code, 2, 0, offset, int.from_bytes(packet[offset : offset + size], "little", signed=size == 4))

    body = b"".join(
        [
            *(store(offset, 4) for offset in (0, 4, 8)),
            store(12, 2),
            store(22, 2),  # time to live, protocol
            store(24, 2),  # checksum
            op(0x57, 0, 0, 0, socket.htons(sources - 1)),
            op(0x6B, 2, 0, 28),  # the source's lower half = r0
            op(0xA7, 0, 0, 0, 0xFFFF),
            op(0x6B, 2, 0, 18),  # identification = ~r0
        ]
    )
    return b"".join(
        [
            op(0xBF, 6, 1),
            op(0x85, 0, 0, 0, GET_RANDOM),
            op(0x61, 2, 6, 0),  # r2 = data
            op(0x61, 3, 6, 4),  # r3 = data_end
            op(0xBF, 4, 2),
            op(0x07, 4, 0, 0, 34),
            op(0x2D, 4, 3, len(body) // 8),  # too short for the verifier's taste: pass on as it is
            body,
            op(0xB7, 0, 0, 0, XDP_PASS),
            op(0x95),
        ]
    )


def load(instructions):
    code = ctypes.create_string_buffer(instructions, len(instructions))
    license = ctypes.create_string_buffer(b"Apache-2.0")
    attributes = struct.pack(
        "<IIQQIIQ",
        PROG_TYPE_XDP,
        len(instructions) // 8,
        ctypes.addressof(code),
        ctypes.addressof(license),
        0,
        0,
        0,
    )
    return bpf(PROG_LOAD, attributes)


def inject(handle, device, packet, count):
    data = ctypes.create_string_buffer(packet, len(packet))
    context = ctypes.create_string_buffer(struct.pack("<IIIIII", 0, len(packet), 0, socket.if_nametoindex(device), 0, 0), 24)
    attributes = struct.pack(
        "<IIIIQQIIIIQQIII",
        handle,
        0,
        len(packet),
        0,
        ctypes.addressof(data),
        0,
        count,
        0,
        len(context),
        0,
        ctypes.addressof(context),
        0,
        LIVE_FRAMES,
        0,
        64,
    )
    started = time.thread_time_ns()
    bpf(PROG_TEST_RUN, attributes)
    return (time.thread_time_ns() - started) / count


def main():
    namespace, device, mac, source, destination, port, sources = sys.argv[1:]
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    enter(namespace)
    packet = frame(mac, socket.inet_aton(source), socket.inet_aton(destination), int(port))
    handle = load(program(packet, int(sources)))
    for line in sys.stdin:
        count = int(line)
        inject(handle, device, packet, count // 10)
        print(inject(handle, device, packet, count), flush=True)


if __name__ == "__main__":
    main()
