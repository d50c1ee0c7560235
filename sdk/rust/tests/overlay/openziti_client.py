"""An application on the OpenZiti client of 2022 (PyPI `openziti` 0.6.0), unmodified.

    enroll TOKEN_FILE IDENTITY_FILE
    echo IDENTITY_FILE SERVICE             hosts: sends back what comes in, until killed
    compare IDENTITY_FILE SERVICE BYTES    dials: sends BYTES random bytes and compares what comes back
"""

import os
import random
import socket
import sys
import threading

from openziti import zitilib

BLOCK = 64 * 1024

# At the head of each block: what no router may see.
MARKER = b"the plaintext marker"


def enroll(token_file, identity_file):
    identity = zitilib.enroll(token_file)
    with open(identity_file, "w", encoding="utf-8") as file:
        file.write(identity)


def echo(identity_file, service):
    context = zitilib.load(identity_file)
    listener = zitilib.ziti_socket(socket.SOCK_STREAM)
    zitilib.bind(listener, context, service)
    zitilib.listen(listener, 16)
    print("hosting", flush=True)
    while True:
        descriptor, (caller, _) = zitilib.accept(listener)
        print("accepted", caller, flush=True)
        threading.Thread(target=send_back, args=(stream(descriptor),), daemon=True).start()


def send_back(connection):
    while block := connection.recv(BLOCK):
        connection.sendall(block)
    connection.close()


def compare(identity_file, service, length):
    context = zitilib.load(identity_file)
    descriptor = zitilib.ziti_socket(socket.SOCK_STREAM)
    # The wrapper zitilib.connect fails without a terminator: it encodes None.
    zitilib.check_error(zitilib._ziti_connect(descriptor, context, service.encode(), None))
    connection = stream(descriptor)
    seed = os.urandom(16)
    sender = threading.Thread(target=send, args=(connection, seed, length), daemon=True)
    sender.start()
    compared = 0
    for expected in blocks(seed, length):
        received = receive(connection, len(expected))
        if received != expected:
            sys.exit(f"other bytes came back than were sent, after {compared}")
        compared += len(expected)
    sender.join()
    connection.close()
    print("compared", compared, flush=True)


def send(connection, seed, length):
    for block in blocks(seed, length):
        connection.sendall(block)


def receive(connection, length):
    received = bytearray()
    while len(received) < length:
        part = connection.recv(length - len(received))
        if not part:
            sys.exit(f"the stream ended with {len(received)} of {length} bytes of a block")
        received += part
    return bytes(received)


def blocks(seed, length):
    generator = random.Random(seed)
    while length > 0:
        block = MARKER + generator.randbytes(BLOCK - len(MARKER))
        block = block[:length]
        length -= len(block)
        yield block


def stream(descriptor):
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, descriptor)


def main():
    command, *arguments = sys.argv[1:]
    if command == "enroll":
        enroll(*arguments)
    elif command == "echo":
        echo(*arguments)
    elif command == "compare":
        compare(arguments[0], arguments[1], int(arguments[2]))
    else:
        sys.exit(__doc__)
    # The library's own threads do not always end in order.
    os._exit(0)


main()
