"""What a measurement ran on, without names of hosts or places in the file system."""
import ctypes
import hashlib
import os
import platform
import re
import subprocess

FEATURES = ("fma avx2 avx512f avx512_vnni avx_vnni avx512_bf16 avx512_fp16 amx_tile amx_int8 amx_bf16 "
            "asimd asimddp i8mm bf16 sve").split()


def read(path):
    try:
        with open(path) as f:
            return f.read().strip()
    except OSError:
        return ""


def first_line(*argv):
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.splitlines()[0] if done.stdout else None


def caches():
    found = {}
    for i in range(8):
        at = f"/sys/devices/system/cpu/cpu0/cache/index{i}/"
        kind = {"Data": "d", "Instruction": "i"}.get(read(at + "type"), "")
        if read(at + "level"):
            found["L" + read(at + "level") + kind] = read(at + "size")
    return found


def cpu():
    info = dict(re.findall(r"^([^\t:]+)\s*: (.*)$", read("/proc/cpuinfo").split("\n\n")[0], re.M))
    flags = set((info.get("flags") or info.get("Features") or "").split())
    memory = re.search(r"MemTotal:\s*(\d+)", read("/proc/meminfo"))
    return {"cpu": info.get("model name", platform.machine()),
            "family_model_stepping": "/".join(info.get(k, "?") for k in ("cpu family", "model", "stepping")),
            "features": [f for f in FEATURES if f in flags], "cores": len(os.sched_getaffinity(0)), "caches": caches(),
            "memory_gb": round(int(memory.group(1)) / 1e6) if memory else None}


def openblas():
    try:
        lib = ctypes.CDLL("libopenblas.so.0")
        lib.openblas_get_config.restype = lib.openblas_get_corename.restype = ctypes.c_char_p
        version = lib.openblas_get_config().decode().split()[1]
        return f"{version} ({lib.openblas_get_corename().decode()} kernels)"
    except (OSError, AttributeError, IndexError):
        return None


def onednn():
    class Version(ctypes.Structure):
        _fields_ = [("major", ctypes.c_int), ("minor", ctypes.c_int), ("patch", ctypes.c_int)]
    try:
        lib = ctypes.CDLL("libdnnl.so.2")
        lib.dnnl_version.restype = ctypes.POINTER(Version)
        v = lib.dnnl_version().contents
        return f"{v.major}.{v.minor}.{v.patch}"
    except (OSError, AttributeError):
        return None


def versions(root, python):
    """Versions of what is compared; `python` is the interpreter of the PyTorch contenders."""
    changed = first_line("git", "-C", root, "status", "--porcelain", "-uno", "--", ".", ":!docs")
    commit = first_line("git", "-C", root, "rev-parse", "--short", "HEAD")
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux") if os.path.exists("/etc/os-release") else "Linux"
    return {"tetrac": commit and commit + (" with changes" if changed else ""), "system": system,
            "compiler of the runtime": first_line("gcc", "--version"), "python": platform.python_version(),
            "torch": first_line(python, "-c", "from importlib.metadata import version; print(version('torch'))"),
            "OpenBLAS": openblas(), "oneDNN": onednn()}


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()[:12]
