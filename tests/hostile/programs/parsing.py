"""Data that grows when it is read, by the program itself and by whoever reads its result."""

from tests.hostile.model import CUT, ENDS, RAISED, WELL, Absent, Program

KIND = "decompression and parsing"

PROGRAMS = (
    Program("zip bomb", KIND, "import io, zipfile\nb = io.BytesIO()\nwith zipfile.ZipFile(b, 'w', zipfile.ZIP_DEFLATED) as z: z.writestr('a', b'0' * (1 << 26))\nkept = []\nwhile True: kept.append(zipfile.ZipFile(b).read('a'))", RAISED | CUT, light=False),
    Program("gzip bomb", KIND, "import gzip\nb = gzip.compress(b'0' * (1 << 26))\nkept = []\nwhile True: kept.append(gzip.decompress(b))", RAISED | CUT, light=False),
    Program("billion laughs", KIND, "import xml.dom.minidom\ne = ''.join(f'<!ENTITY a{i} \"' + f'&a{i-1};' * 10 + '\">' for i in range(1, 12))\nxml.dom.minidom.parseString(f'<!DOCTYPE x [<!ENTITY a0 \"ha\">{e}]><x>&a11;</x>')", ENDS),
    Program("deep JSON", KIND, "import json\njson.loads('[' * 10**6)", ENDS),
    Program("deep JSON as a result", KIND, "import os\nos.write(3, b'{\"type\": \"result\", \"text\": ' + b'[' * 100_000 + b'\\n')", ENDS),
    Program("a pickle as a result", KIND, "class Evil:\n    def __reduce__(self): return (print, ('unpickled',))\nEvil()", WELL),
    Program("the repr of a huge number", KIND, "import sys\nsys.set_int_max_str_digits(0)\n1 << 10_000_000", ENDS),
    Program("a repr that never ends", KIND, "class R:\n    def __repr__(self):\n        while True: pass\nR()", frozenset({"TimedOut"})),
    Program("a PNG bomb as a result", KIND, "import os, base64, json\npng = base64.b64encode(b'\\x89PNG\\r\\n\\x1a\\n' + b'0' * (1 << 22)).decode()\nos.write(3, json.dumps({'type': 'result', 'png': png, 'is_main_result': True}).encode() + b'\\n') if 0 else None\nclass P:\n    def _repr_png_(self): return b'\\x89PNG\\r\\n\\x1a\\n' + b'0' * (1 << 24)\nP()", ENDS),
)  # fmt: skip

ABSENT = (Absent("YAML alias bomb", KIND, "the image has no YAML parser, and neither side reads YAML of a run"),)
