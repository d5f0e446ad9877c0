"""What a submission is and reads, to tell whether finished runs are still its runs.

Its code counts as it compiles: without docstrings, comments, blank lines and line numbers. What it read while it ran
counts too: other files and environment variables, as short hashes of their content; what it only looked
for, as whether that is there; folders that it listed, as a hash of the names in them.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib.machinery
import importlib.util
import os
import re
import stat
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import FrameType

from local_eval.methods.source import NOT_PYTHON, SubmissionError
from local_eval.store.errors import InputError
from local_eval.store.files import is_litter
from local_eval.tasks.own_code import code_shape

# Follow what a submission reads beside its own code: files, imported modules, environment variables.
#
# What was looked for and is not there counts as well: a settings.json that comes to be changes what the next run
# does. What the run itself wrote does not; but a file outside of its own folder that it looks for and then writes is
# there for the runs after it, and is told.
#
# Opening and listing is heard by an audit hook, which cannot be taken out again; asking whether a file is there is
# not heard by any, so os.stat and its like are replaced. Both belong into a process that ends with the run
# (isolation/child.py). Packages, the standard library and the system's files are not followed: a run's record names
# versions instead.


SYSTEM = ("/usr/", "/etc/", "/lib/", "/lib64/", "/proc/", "/sys/", "/dev/", "/System/", "/Library/", "/nix/", "/run/")
PACKAGE = str(Path(__file__).resolve().parents[1])
MAPPINGS = {os.getenv.__code__.co_filename, Mapping.get.__code__.co_filename}  # where os.environ's methods are
MOST, MOST_UNTOLD = 5000, 50  # names that are handed over; a run's record is not to outgrow its logits by far
LOOKS_AT_ALL = {"__iter__", "keys", "items", "values", "copy"}
# Modules that only pass on what their caller asks of the file system; pathlib is several files from Python 3.13 on
PASS_ON = {"os", "genericpath", "posixpath", "ntpath", "glob", "shutil", "fnmatch", "importlib", "importlib.util"}
ON_THEIR_WAY = {"realpath", "_joinrealpath", "resolve", "samefile", "makedirs", "mkdir", "getcwd", "cwd"}
IF_THERE = {"exists", "lexists", "is_file", "is_dir", "isfile", "isdir", "islink", "is_symlink", "access", "ismount"}
OF_TIME = {"getmtime", "getctime", "getatime"}
# Variables that workers are given and the command has not: what a run reads of them says nothing of the user's place
OF_WORKERS = frozenset({"CUDA_VISIBLE_DEVICES", "MPLBACKEND", "PYTORCH_NVML_BASED_CUDA_CHECK"})
IMPORT = "<import>"  # stands for importlib's functions
IMPORTING = ("importlib", "pkgutil", "pkg_resources", "site", "inspect", "linecache", "zipimport")
# Libraries that open files without Python's knowing
OPEN_UNHEARD = ("cv2", "h5py", "lmdb", "netCDF4", "pyarrow", "safetensors", "tables", "rasterio")
ENDINGS = (".py", f"{os.sep}__init__.py", *importlib.machinery.EXTENSION_SUFFIXES)


class Trace:
    """Everything that was read since `start`."""

    def __init__(self, apart_from: Iterable[Path | str] = (), home: Path | str | None = None):
        """What a process is going to read.

        Args:
            apart_from: files and folders that are followed by other means, such as the task's data.
            home: the folder in which the command was given, if the process works in another, empty one.
        """
        self.files: set[str] = set()  # read, or asked for their size
        self.looked: set[str] = set()  # whether they are there
        self.listed: set[str] = set()  # folders whose names were asked for
        self.environment: set[str] = set()
        self.untold: set[str] = set()
        self.missed: set[str] = set()  # relative paths, not here, which would be files in `home`
        self._elsewhere: set[str] = set()  # where `home` would have what relative paths did not find
        self._absent: set[str] = set()  # when they were looked for
        self._written: set[str] = set()
        self._home = None if home is None else str(home)
        self._known = tuple(os.path.realpath(os.path.join(home or "", p)) for p in apart_from)
        self._own: tuple[str, ...] = ()  # folders that end with this process
        self._begun = sys.maxsize  # nanoseconds by the clock of files; what has changed since was written meanwhile
        self._here = threading.local()
        self._loaded: frozenset[str] = frozenset()

    def start(self) -> None:
        """Follow from now on, to the end of this process."""
        library_folders()
        if self._home is not None:
            self._own = tuple({os.path.realpath(p) for p in (tempfile.gettempdir(), os.getcwd())})
            self._begun = os.stat(os.getcwd()).st_ctime_ns
        self._loaded = frozenset(sys.modules)
        sys.addaudithook(self._hear)
        self._watch_environment()
        self._watch_lookups()
        sys.meta_path.append(_LastFinder(self))

    def as_json(self) -> dict[str, list[str]]:
        """Names only: their contents are looked at by a process that this one's code cannot reach.

        `elsewhere` are the files that relative paths would name in the folder where the command was given; `kept` are
        files that this run has left for others to find.
        """
        self._here.busy = True
        kept = {name for name in self.files | self._absent if self._is_left_behind(name)}
        files, untold = sorted(self.files - kept), {*self.untold, *map(left_behind, kept), *self._unheard()}
        looked, listed = sorted(self.looked - kept - self.files), sorted(self.listed)
        if (count := len(files) + len(looked) + len(listed)) > MOST:
            files, looked, listed = [], [], []
            untold = [f"it reads {count} files, more than are followed", *sorted(untold)]
        reported = {
            "files": files,
            "environment": sorted(self.environment)[:MOST],
            "untold": sorted(untold)[:MOST_UNTOLD],
        }
        more = {"looked": looked, "listed": listed, "elsewhere": sorted(self._elsewhere)[:MOST]}
        more |= {"kept": sorted(kept)[:MOST_UNTOLD]}
        return reported | {key: names for key, names in more.items() if names}

    def remove_made(self) -> None:
        """Remove the files that were not there when they were looked for and that this process has made since."""
        self._here.busy = True
        for name in self._absent:
            if self._is_left_behind(name):
                with contextlib.suppress(OSError):
                    os.remove(name)

    def refusal(self, beside: Path, error: BaseException | None = None) -> str | None:
        """One sentence if it looked in its empty folder for a file that is where the command was given; else None.

        Args:
            beside: the submission's file.
            error: what ended the run, if something did; it is told on its own if it has nothing to do with that.
        """
        self._here.busy = True
        names = sorted(self.missed)
        if error is not None:
            about_files = isinstance(error, OSError | InputError)
            names = [name for name in names if about_files or name in str(error)] or self._named_in(error)
        if not names:
            return None
        name, near = names[0], beside.parent / names[0]
        way = f'Path(__file__).parent / "{name}"' if near.exists() else f'"{os.path.join(self._home, name)}"'
        return (
            f"{beside}: {name} is looked for in the run's own working folder, which is empty when it starts; the one "
            f"in {self._home} is not seen from there. To read that one write {way}; if the method makes the file "
            "itself, move that one away"
        )

    def _named_in(self, error: BaseException) -> list[str]:
        """Relative paths in an error's text that lead nowhere here and somewhere in `home`."""
        text = str(error)
        if self._home is None or not (isinstance(error, OSError) or "exist" in text or "open" in text):
            return []
        words = [word.strip(".:") for word in re.split(r"[\s'\"`,;()\[\]<>]+", text)]
        words += [word.partition(os.sep)[0] for word in words if os.sep in word]
        # A plain word may just be English, unless it is quoted or torch says "Parent directory data does not exist".
        meant = re.findall(r"""(?:['"`]|\b(?:directory|folder|file) )([^'"`\s]*[^'"`\s.:])""", text)
        words = [word for word in words if word in meant or "." in word or os.sep in word]
        words = [word for word in words if not os.path.isabs(word) and not os.path.lexists(word)]
        return [word for word in words if os.path.lexists(os.path.join(self._home, word))]

    def _is_left_behind(self, name: str) -> bool:
        """Has it been written, by this process as far as can be known, after this process had read or missed it?"""
        try:
            about = _stat(name)
        except (OSError, ValueError):
            return False
        return stat.S_ISREG(about.st_mode) and (about.st_ctime_ns > self._begun or name in self._written)

    def _unheard(self) -> list[str]:
        new = sorted(name for name in OPEN_UNHEARD if name in sys.modules and name not in self._loaded)
        return [f"it has loaded {name}, which opens files in a way that is not followed" for name in new]

    def _hear(self, event: str, args: tuple) -> None:
        if getattr(self._here, "busy", False):
            return
        self._here.busy = True
        try:
            self._note_event(event, args)
        except Exception as error:  # raised on, it would be the submission's: its file would seem not to open
            self.untold.add(f"it reads something that cannot be followed ({type(error).__name__})")
        finally:
            self._here.busy = False

    def _note_event(self, event: str, args: tuple) -> None:
        if event == "open":
            self._opened(*args)
        elif event in ("os.listdir", "os.scandir"):
            self._lists(args[0], sys._getframe(2))
        elif event == "os.rename":
            self._written.add(_real(args[1]))
        elif event == "os.link":  # from now on it can be read by the other name, whose file counts as new
            self._note(_real(args[0]))
        elif event == "socket.connect":
            self.untold.add(f"it connects to {args[1]!r}")
        elif event in ("subprocess.Popen", "os.system", "os.posix_spawn", "os.exec"):
            self.untold.add(f"it starts {args[0]!r}, and what that reads is not followed")

    def _opened(self, path: object, mode: str | None, flags: int | None) -> None:
        if not isinstance(path, str | bytes | os.PathLike):  # a file that is open already
            return
        name = _real(path)
        if _writes(mode, flags):
            self._written.add(name)
            return
        if "__pycache__" in name and name.endswith(".pyc"):
            name = importlib.util.source_from_cache(name)
        self._miss(path)
        if name not in self._written and self._is_followed(name):
            self._note(name)

    def _is_followed(self, name: str) -> bool:
        if name.startswith(library_folders()):
            return False
        return not any(name == known or name.startswith(known + os.sep) for known in (*self._known, *self._own))

    def _note(self, name: str) -> None:
        try:
            kind = _stat(name).st_mode
        except OSError:  # looked for and not there: should it come to be, that is a change
            self.files.add(name)
            self._absent.add(name)
            return
        if stat.S_ISREG(kind):
            self.files.add(name)
        elif not stat.S_ISDIR(kind):
            self.untold.add(f"it reads {name}, a pipe or a device, which cannot be told from another time's")

    def _miss(self, path: object) -> None:
        """Note a relative path that leads nowhere in the folder of this process, and what `home` has by that name."""
        name = os.fsdecode(path)
        if self._home is None or not name or os.path.isabs(name) or os.path.lexists(name):
            return
        if os.path.realpath(os.getcwd()) not in self._own:  # it has gone elsewhere by itself
            return
        there = os.path.join(self._home, name)
        self._elsewhere.add(_real(there))
        if os.path.isfile(there):
            self.missed.add(name)

    def _lists(self, path: object, frame: FrameType | None) -> None:
        asker, through, module = _asker_of(frame)
        if not isinstance(path, str | bytes | os.PathLike | None) or IMPORT in through or module.startswith(IMPORTING):
            return
        name = _real("." if path is None else path)
        by_library = asker.startswith(library_folders())
        if not self._is_followed(name + os.sep) or not self._is_followed(name) or (by_library and _is_hidden(name)):
            return
        if self._own and any(own.startswith(name.rstrip(os.sep) + os.sep) for own in self._own):
            self.untold.add(f"it lists {name}, where other programs come and go")
        else:
            self.listed.add(name)

    def _watch_lookups(self) -> None:
        """Hear of files that are only asked about."""
        for ask in (os.stat, os.lstat, os.access):
            telling = self._telling(ask)
            for able in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks, os.supports_effective_ids):
                if ask in able:
                    able.add(telling)
            setattr(os, ask.__name__, telling)
        importlib.util.find_spec = self._telling_of_modules(importlib.util.find_spec)

    def _telling(self, ask: Callable) -> Callable:
        @functools.wraps(ask)
        def asked(*args, **more):
            try:
                return ask(*args, **more)
            finally:
                if more.get("dir_fd") is None:
                    path = args[0] if args else more.get("path")
                    self._hear_question(path, ask.__name__, sys._getframe(1))

        return asked

    def _telling_of_modules(self, find: Callable) -> Callable:
        """A module that is found and not imported is a file that is there."""

        @functools.wraps(find)
        def asked(*args, **more):
            spec = find(*args, **more)
            if spec is not None and spec.has_location and spec.origin:
                with contextlib.suppress(OSError):
                    os.path.exists(spec.origin)  # heard as any other question
            return spec

        return asked

    def _hear_question(self, path: object, asking: str, frame: FrameType) -> None:
        if getattr(self._here, "busy", False) or not isinstance(path, str | bytes | os.PathLike):
            return
        self._here.busy = True
        try:
            asker, through, _ = _asker_of(frame)
            if not asker.startswith(library_folders()) and not through & {*ON_THEIR_WAY, IMPORT}:
                self._asked_about(path, through | {asking})
        except Exception as error:
            self.untold.add(f"it looks for something that cannot be followed ({type(error).__name__})")
        finally:
            self._here.busy = False

    def _asked_about(self, path: object, through: set[str]) -> None:
        self._miss(path)
        name = _real(path)
        if name in self._written or not self._is_followed(name):
            return
        if not os.path.exists(name):
            self._absent.add(name)
            self.looked.add(name)
        elif through & IF_THERE or not os.path.isfile(name):
            self.looked.add(name)
        else:
            self.files.add(name)
        if through & OF_TIME:
            self.untold.add(f"it asks for a time of {name}, which is not followed")

    def _misses_module(self, name: str, places: Iterable[str], frame: FrameType | None) -> None:
        """A module that a user's file imports and that is nowhere: where it would be, should it come to be."""
        if _asker_of(frame)[0].startswith(library_folders()):
            return
        last = name.rpartition(".")[2]
        for place in places:
            if isinstance(place, str) and os.path.isdir(place or ".") and _real(place or ".") not in self._own:
                found = {os.path.join(_real(place or "."), last + ending) for ending in ENDINGS}
                self.looked |= found
                self._absent |= found

    def _watch_environment(self) -> None:
        """Variables asked for by name by a user's file; what libraries ask for on their own is not the user's."""
        kind, ask, walk = type(os.environ), type(os.environ).__getitem__, type(os.environ).__iter__
        passed: set[str] = set()  # names that came up in going through all

        def asked(environment, name):
            caller, through = _asker()
            by_name = through not in LOOKS_AT_ALL and name not in passed
            if by_name and isinstance(name, str) and not caller.startswith(library_folders()):
                self.environment.add(name)
            return ask(environment, name)

        def walked(environment):
            if not _asker()[0].startswith(library_folders()):
                self.untold.add("it goes through all environment variables, which is not followed")
                passed.update(walk(environment))
            return walk(environment)

        kind.__getitem__, kind.__iter__ = asked, walked


class _LastFinder:
    """The last that is asked for a module: it finds none, and tells what all others have not found."""

    def __init__(self, trace: Trace):
        self._trace = trace

    def find_spec(self, name: str, path: Iterable[str] | None = None, target: object = None) -> None:
        """As importlib asks; always None."""
        if not getattr(self._trace._here, "busy", False):
            self._trace._here.busy = True
            try:
                self._trace._misses_module(name, list(sys.path if path is None else path), sys._getframe(1))
            except Exception:  # an importer of the submission's own may ask oddly
                self._trace.untold.add(f"it looks for a module {name} in a way that cannot be followed")
            finally:
                self._trace._here.busy = False


_stat = os.stat


def left_behind(name: str) -> str:
    """What to say of a file that a run has looked for and written."""
    return (
        f"it looks for {name}, which was written while it ran, by it or by another run, so runs depend on each other: "
        "keep such a file in the working folder, which every run has for itself, or make it once beforehand"
    )


def _real(path: object) -> str:
    return os.path.realpath(os.fsdecode(path))


def _is_hidden(name: str) -> bool:
    """In a folder for caches and settings? Libraries look into these on their own."""
    return f"{os.sep}." in name


def _asker_of(frame: FrameType | None) -> tuple[str, set[str], str]:
    """The file that asks something of the file system, the functions through which it does, and its module's name."""
    through: set[str] = set()
    while frame is not None and frame.f_back is not None and _passes_on(frame):
        through.add(IMPORT if _imports(frame) else frame.f_code.co_name)
        frame = frame.f_back
    if frame is None:
        return "", through, ""
    return _place_of(frame.f_code.co_filename), through, str(frame.f_globals.get("__name__", ""))


def _passes_on(frame: FrameType) -> bool:
    name = str(frame.f_globals.get("__name__", ""))
    return name in PASS_ON or name == __name__ or name.split(".")[0] == "pathlib" or _imports(frame)


def _imports(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith("<frozen importlib._bootstrap")


@lru_cache(maxsize=1024)
def _place_of(code: str) -> str:
    return code if code.startswith("<") else os.path.realpath(code)


def _writes(mode: str | None, flags: int | None) -> bool:
    if mode is not None and any(letter in mode for letter in "wax"):
        return True
    return mode is None and flags is not None and bool(flags & (os.O_WRONLY | os.O_CREAT | os.O_TRUNC))


def _asker() -> tuple[str, str]:
    """The file that asks for a variable, and the name of the mapping's method through which it does."""
    frame, through = sys._getframe(2), ""
    while frame.f_back is not None and frame.f_code.co_filename in MAPPINGS:
        through, frame = frame.f_code.co_name, frame.f_back
    name = frame.f_code.co_filename
    return (name if name.startswith("<") else os.path.realpath(name)), through


@lru_cache(maxsize=1)
def library_folders() -> tuple[str, ...]:
    """Where packages, the standard library, this kit and the system's files lie; as str.startswith takes them."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    found = {os.path.realpath(path) for name in names if (path := sysconfig.get_path(name))}
    found |= {os.path.realpath(os.path.join(p, "lib")) for p in (sys.prefix, sys.base_prefix, sys.exec_prefix)}
    found |= {os.path.realpath(p) for p in sys.path if p.endswith(("site-packages", "dist-packages"))}
    return tuple(f"{p}{os.sep}" for p in sorted(found | {PACKAGE})) + SYSTEM + ("<frozen ",)


NO_FILE = "no file"  # whatever else is there
LARGEST_CODE = 1 << 24  # bytes of a .py file that is compared by what it compiles to
LARGEST_READ = 1 << 38  # bytes of all files that one run reads; a sparse file claims any size


@dataclass(frozen=True)
class Reads:
    """What a run read beside its own code, as it was then."""

    files: dict[str, str] = field(default_factory=dict)  # absolute path -> short hash
    environment: dict[str, str] = field(default_factory=dict)  # variable -> short hash, "" for one that was not set
    untold: tuple[str, ...] = ()  # what cannot be followed, in words
    looked: dict[str, str] = field(default_factory=dict)  # absolute path -> "", "file", "folder"; or NO_FILE
    listed: dict[str, str] = field(default_factory=dict)  # absolute path of a folder -> short hash of its names

    @classmethod
    def now(
        cls,
        files: Iterable[str],
        environment: Iterable[str],
        untold: Iterable[str],
        looked: Iterable[str] = (),
        listed: Iterable[str] = (),
        elsewhere: Iterable[str] = (),
    ) -> Reads:
        """The present content of these files, variables and folders.

        The names come from a process that has run foreign code, so their number and their files' size are checked here.

        Args:
            elsewhere: paths of which only matters that there is no file.
        Raises:
            SubmissionError: more than any run can have read in earnest.
        """
        files, environment, untold, looked, listed, elsewhere = map(
            list, (files, environment, untold, looked, listed, elsewhere)
        )
        if max(map(len, (files, environment, looked, listed, elsewhere))) > MOST or len(untold) > MOST_UNTOLD:
            raise SubmissionError(f"it names more than {MOST} files or variables that it has read")
        if (size := sum(map(file_size, files))) > LARGEST_READ:
            raise SubmissionError(f"it reads files of {size / 1e12:.1f} TB together, too much to be followed")
        return cls(
            {f: file_digest(f) for f in sorted(files)},
            {name: variable_digest(name) for name in sorted(set(environment) - OF_WORKERS)},
            tuple(sorted(untold)),
            dict.fromkeys(sorted(elsewhere), NO_FILE) | {f: presence(f) for f in sorted(looked)},
            {f: names_digest(f) for f in sorted(listed)},
        )

    def changes(self) -> list[str]:
        """What has changed since, in words; empty if nothing has."""
        files = [f"the file {f}" for f, digest in self.files.items() if file_digest(f) != digest]
        names = [n for n, digest in self.environment.items() if variable_digest(n) != digest]
        looked = [f"whether there is a {_kind(now or was)} {f}" for f, was, now in self._looks_changed()]
        listed = [f"the list of files in {f}" for f, digest in self.listed.items() if names_digest(f) != digest]
        return files + [f"the environment variable {n}" for n in names] + looked + listed

    def _looks_changed(self) -> list[tuple[str, str, str]]:
        """What was looked for and is otherwise now: path, what was there, what is."""
        found = [(f, was, presence(f)) for f, was in self.looked.items()]
        return [(f, was, now) for f, was, now in found if (now == "file" if was == NO_FILE else now != was)]

    def as_json(self) -> dict:
        """For a record; as in earlier versions where it neither looked for files nor listed folders."""
        reported = {"files": self.files, "environment": self.environment, "untold": list(self.untold)}
        return reported | {key: found for key in ("looked", "listed") if (found := getattr(self, key))}

    @classmethod
    def from_json(cls, content: dict) -> Reads:
        """What `as_json` gave; empty for records of a time when nothing was followed, or less."""
        untold = tuple(content.get("untold", ()))
        found = [content.get(key, {}) for key in ("files", "environment", "looked", "listed")]
        return cls(*found[:2], untold, *found[2:])


def variable_digest(name: str) -> str:
    """Short hash of an environment variable, which may be a secret; "" if it is not set."""
    value = os.environ.get(name)
    return "" if value is None else hashlib.sha256(value.encode(errors="surrogateescape")).hexdigest()[:12]


def presence(path: str) -> str:
    """What is at a path: "file", "folder", "something else", or "" for nothing."""
    try:
        kind = os.stat(path).st_mode
    except (OSError, ValueError):
        return ""
    return "file" if stat.S_ISREG(kind) else "folder" if stat.S_ISDIR(kind) else "something else"


def _kind(found: str) -> str:
    return found if found in ("file", "folder") else "file"


def names_digest(folder: str) -> str:
    """Short hash of the names in a folder, without what systems and Python leave there; "gone" without a folder."""
    try:
        names = sorted(name for name in os.listdir(folder) if name != "__pycache__" and not is_litter(name))
    except OSError:
        return "gone"
    return hashlib.sha256("\0".join(names).encode(errors="surrogateescape")).hexdigest()[:12]


def file_size(path: str) -> int:
    """Bytes of a regular file; 0 for anything else."""
    try:
        about = os.stat(path)
    except (OSError, ValueError):
        return 0
    return about.st_size if stat.S_ISREG(about.st_mode) else 0


def file_digest(path: str) -> str:
    """Short hash of a file: of Python's code as it compiles, of anything else byte for byte; "gone" without one."""
    try:
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):  # reading a pipe would never end
            return "no file"
        return _digest_of(path, about.st_mtime_ns, about.st_ctime_ns, about.st_size, about.st_ino)
    except OSError:
        return "gone"


@lru_cache(maxsize=4096)
def _digest_of(path: str, changed: int, renamed: int, size: int, inode: int) -> str:
    """The digest of a file that has these times, in nanoseconds, this size in bytes and this number."""
    with open(path, "rb") as file:
        if path.endswith(".py") and size <= LARGEST_CODE:
            content = file.read(LARGEST_CODE + 1)
            with contextlib.suppress(*NOT_PYTHON):  # whoever opened it did not run it then
                content = code_shape(ast.parse(content)).encode(errors="surrogatepass")
            return hashlib.sha256(content).hexdigest()[:12]
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]  # in pieces: it may be larger than the memory
