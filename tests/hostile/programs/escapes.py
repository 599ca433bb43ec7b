"""Ways round a Python sandbox. There is none in a Python run, whose fence is the kernel: they must gain nothing."""

from tests.hostile.model import ENDS, RAISED, WELL, Program

KIND = "Python escapes"

PROGRAMS = (
    Program("the chain of classes", KIND, "classes = ().__class__.__mro__[1].__subclasses__()\nfor c in classes:\n    if c.__name__ == 'Popen': print(c(['id'], stdout=-1).communicate())\nlen(classes)", WELL),
    Program("str.format that walks", KIND, "class A: pass\n'{0.__class__.__init__.__globals__}'.format(A()) if hasattr(A.__init__, '__globals__') else 'none'", ENDS),
    Program("string.Formatter", KIND, "import string\nstring.Formatter().format('{0.__class__.__base__.__subclasses__}', 1)", WELL),
    Program("frames by an exception", KIND, "try: 1/0\nexcept ZeroDivisionError as e:\n    f = e.__traceback__.tb_frame\n    while f:\n        print({k: str(v)[:200] for k, v in f.f_locals.items()})\n        print({k: str(v)[:200] for k, v in f.f_globals.items()})\n        f = f.f_back", WELL),
    Program("a generator's frame", KIND, "g = (x for x in [1])\nf = g.gi_frame\nwhile f:\n    print(str(f.f_builtins)[:200])\n    f = f.f_back", WELL),
    Program("the module of a built-in", KIND, "print.__self__.open('/proc/self/environ').read()", WELL | RAISED),
    Program("built-ins taken away and restored", KIND, "__builtins__.__dict__.clear() if hasattr(__builtins__, '__dict__') else __builtins__.clear()\nopen('x')", ENDS),
    Program("ctypes", KIND, "import ctypes\nctypes.CDLL(None).system(b'id')\nctypes.memset(0x1000, 1, 1)", frozenset({"Killed"})),
    Program("every object of the process", KIND, "import gc\nfound = [o for o in gc.get_objects() if isinstance(o, (dict, list)) and 'EXECPOOL' in str(o)[:2000]]\nprint(str(found)[:20000])\nfor o in gc.get_objects():\n    if type(o).__name__ == 'socket': print('socket', o)", WELL),
    Program("sys.settrace", KIND, "import sys\nseen = []\nsys.settrace(lambda f, e, a: seen.append(f.f_code.co_filename))\nsys.setprofile(lambda f, e, a: seen.append(f.f_code.co_filename))\nexec('x = 1')\nsorted(set(seen))", WELL),
    Program("a forged code object", KIND, "def f(): pass\nf.__code__ = f.__code__.replace(co_code=bytes(range(1, 255)) * 8, co_consts=(), co_names=())\nf()", ENDS),
    Program("atexit", KIND, "import atexit, time\natexit.register(lambda: time.sleep(60))\natexit.register(print, 'exit function')", frozenset({"TimedOut"})),
    Program("sys.exit and BaseException", KIND, "class Quit(BaseException): pass\nimport threading, sys\nthreading.Thread(target=sys.exit).start()\nraise Quit('bye')", RAISED),
    Program("breakpoint and input", KIND, "import sys\ntry: input('password: ')\nexcept BaseException as e: print(type(e).__name__)\nbreakpoint()", ENDS),
    Program("an import hook", KIND, "import sys, builtins\nclass Hook:\n    def find_spec(self, name, path, target=None): print('asked for', name)\nsys.meta_path.insert(0, Hook())\nbuiltins.__import__ = lambda *a, **k: 1/0\nimport colorsys", ENDS),
    Program("inspect upward", KIND, "import inspect\nfor info in inspect.stack(): print(info.filename, info.function, str(info.frame.f_locals)[:300])", WELL),
    Program("threads that change what the runner uses", KIND, "import json, os, sys, io\njson.dumps = lambda *a, **k: 'x'\nos.write = lambda *a: 1/0\nos._exit = lambda *a: None\nsys.stdout = io.StringIO()\nsys.excepthook = 5\nsys.displayhook = None\n1 + 1", ENDS),
    Program("an exception whose words raise", KIND, "class E(Exception):\n    def __str__(self): raise E()\n    __repr__ = __str__\nclass M(type):\n    def __getattribute__(cls, name): raise SystemExit(3)\nraise E()", RAISED),
)  # fmt: skip
