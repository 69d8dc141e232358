"""Lets a flood of SYNs arrive at a device, on every processor, as fast as the kernel takes them: nobody has to send them.

    flood.py NAMESPACE DEVICE MAC REAL SHARE

Each SYN goes to port 25 of an address in 203.0.0.0/16 at random, from a source in 10.0.0.0/8 at random; but one in SHARE
from each of so many REAL machines, 100.64.1.1 and those after it (at most 254, and no more than SHARE). For each line with
a number of packets it prints the seconds that they took. How it is done, and what it needs: inject.py beside this folder.
"""
import os
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), ".."))
from inject import GET_RANDOM, XDP_PASS, enter, frame, inject, load  # noqa: E402

HEADERS = 14 + 20 + 20


def words(data):
    """The sum that a checksum is made of, in this machine's byte order: the complement comes out in the wire's."""
    return sum(struct.unpack(f"={len(data) // 2}H", data))


def program(packet, real, share):
    """Writes again what forwarding changes, other ends and the checksums; then lets the packet go on."""

    def op(code, dst=0, src=0, offset=0, value=0):
        return struct.pack("<BBhi", code, dst | src << 4, offset, value)

    def store(offset, size):
        code = {2: 0x6A, 4: 0x62}[size]
        return op(code, 2, 0, offset, int.from_bytes(packet[offset : offset + size], "little", signed=size == 4))

    def draw(register):
        return op(0x85, 0, 0, 0, GET_RANDOM) + op(0xBF, register, 0)

    def checksum(offset, fixed, *registers):
        fold = op(0xBF, 4, 1) + op(0x77, 4, 0, 0, 16) + op(0x57, 1, 0, 0, 0xFFFF) + op(0x0F, 1, 4)
        start = op(0xB7, 1, 0, 0, fixed)
        added = b"".join(op(0x0F, 1, register) for register in registers)
        return start + added + fold + fold + op(0xA7, 1, 0, 0, 0xFFFF) + op(0x6B, 2, 1, offset)

    blank = bytearray(packet[:HEADERS])
    blank[24:30] = bytes(6)  # checksum, source
    blank[32:36] = bytes(4)  # lower half of the destination, source port
    blank[50:52] = bytes(2)  # checksum
    ip = words(bytes(blank[14:34]))
    tcp = words(bytes(blank[26:]) + struct.pack("!HH", 6, 20))
    forged = int.from_bytes(socket.inet_aton("10.0.0.0"), "little")
    machine = int.from_bytes(socket.inet_aton("100.64.1.0"), "little")
    # r7: the source; r8: the lower half of the destination; r5: the source port; r9: which of SHARE it is.
    ends = b"".join(
        [
            draw(7),
            draw(8),
            draw(9),
            op(0x54, 7, 0, 0, -256),
            op(0x47, 7, 0, 0, forged),
            op(0x94, 9, 0, 0, share),
            op(0x35, 9, 0, 4, real),  # r9 >= real: it stays forged
            op(0x07, 9, 0, 0, 1),
            op(0x67, 9, 0, 0, 24),
            op(0x47, 9, 0, 0, machine),
            op(0xBF, 7, 9),
            op(0xBF, 5, 8),
            op(0x77, 5, 0, 0, 16),
            op(0x57, 5, 0, 0, 0xFFFF),
            op(0x57, 8, 0, 0, 0xFFFF),
        ]
    )
    body = b"".join(
        [
            *(store(offset, 4) for offset in (0, 4, 8)),
            store(12, 2),
            store(22, 2),  # time to live, protocol
            op(0x63, 2, 7, 26),
            op(0x6B, 2, 8, 32),
            op(0x6B, 2, 5, 34),
            op(0xBF, 0, 7),  # the halves of the source: r0, r7
            op(0x57, 0, 0, 0, 0xFFFF),
            op(0x67, 7, 0, 0, 32),
            op(0x77, 7, 0, 0, 48),
            checksum(24, ip, 0, 7, 8),
            checksum(50, tcp, 0, 7, 8, 5),
        ]
    )
    return b"".join(
        [
            op(0xBF, 6, 1),
            ends,
            op(0x61, 2, 6, 0),  # r2 = data
            op(0x61, 3, 6, 4),  # r3 = data_end
            op(0xBF, 4, 2),
            op(0x07, 4, 0, 0, HEADERS),
            op(0x2D, 4, 3, len(body) // 8),  # too short for the verifier's taste: pass on as it is
            body,
            op(0xB7, 0, 0, 0, XDP_PASS),
            op(0x95),
        ]
    )


def share_of(processor, handle, device, packet, count):
    """A child that lets so many arrive on one processor; its process id."""
    child = os.fork()
    if child == 0:
        os.sched_setaffinity(0, {processor})
        inject(handle, device, packet, count)
        os._exit(0)
    return child


def main():
    namespace, device, mac, real, share = sys.argv[1:]
    enter(namespace)
    packet = frame(mac, socket.inet_aton("10.0.0.0"), socket.inet_aton("203.0.0.0"), 25)
    handle = load(program(packet, int(real), int(share)))
    processors = sorted(os.sched_getaffinity(0))
    for line in sys.stdin:
        count = int(line)
        started = time.monotonic()
        each = [count * (at + 1) // len(processors) - count * at // len(processors) for at in range(len(processors))]
        children = [share_of(processor, handle, device, packet, n) for processor, n in zip(processors, each)]
        if any([os.waitpid(child, 0)[1] for child in children]):
            raise SystemExit("not all of the flood has arrived")
        print(time.monotonic() - started, flush=True)


if __name__ == "__main__":
    main()
