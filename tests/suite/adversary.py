"""Another user, who does at random what the system lets him do near a store: adversary.py SEED SHM STORE
VICTIM. Whatever fails is somebody's right to refuse."""
import ctypes, fcntl, os, random, select, shutil, signal, socket, sys

seed, shm, store, victim = sys.argv[1:5]
pick = random.Random(int(seed))
libc = ctypes.CDLL(None, use_errno=True)
me = os.getuid()
held = []
ENDINGS = ["live", "live.new", "wait", "ring", "ring.new", "chunks"]
FILES = ["00000001.data", "00000001.idx", "00000002.data", "00000003.idx", "live", "feed.json",
         "feed.copy.json", "feed_registry.bin", ".repair-00000001.data", "9.data"]


def ls(folder):
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def walk(top, depth=4):
    """All that lies below a folder, links not followed."""
    for name in ls(top):
        path = os.path.join(top, name)
        yield path
        if depth and os.path.isdir(path) and not os.path.islink(path):
            yield from walk(path, depth - 1)


def feeds():
    return [name for name in ls(f"{store}/feeds") if not name.startswith(".")] or ["disk"]


def everything():
    return list(walk(shm)) + list(walk(store)) + list(walk(victim))


def stems():
    """The names of the store's folders in shared memory, up to the user."""
    found = {".".join(name.split(".")[:2]) for name in ls(shm) if name.startswith("deepwater.")}
    return sorted(found) or ["deepwater.0123456789abcdef"]


def memory_name():
    stem = pick.choice(stems())
    user = pick.choice([me, me, 7, 0, 1500, 1500])
    more = pick.choice(["", "", f".{pick.getrandbits(64):016x}", ".0123456789abcdef"])
    return f"{shm}/{stem}.{user}{more}"


def own_name():
    """A name that one of the store's own files has, or could have."""
    where = pick.random()
    if where < 0.3:
        return memory_name()
    if where < 0.7:
        folder = pick.choice([f"{shm}/{n}" for n in ls(shm)] or [memory_name()])
        name = f"{pick.choice(feeds() + ['gone'])}.{pick.choice(ENDINGS)}"
        deeper = f"/{pick.choice(FILES[:4])}" if name.endswith("chunks") and pick.random() < 0.5 else ""
        return f"{folder}/{name}{deeper}"
    if where < 0.85:
        return f"{store}/feeds/{pick.choice(feeds())}/{pick.choice(FILES)}"
    locks = [f"{store}/locks/{n}" for n in ls(f"{store}/locks")]
    top = [f"{store}/{n}" for n in ("registry.bin", "manifest.json", "deepwater.log", "locks", "quarantine",
                                    "feeds", "feeds/.new-07", "feeds/.deleted-07")]
    return pick.choice(locks * 3 + top)


def target():
    fixed = [victim, f"{victim}/sub", store, f"{store}/feeds", f"{store}/locks", "/nowhere", "/dev/zero"]
    inner = list(walk(victim)) + [f"{store}/feeds/{name}" for name in feeds()]
    return pick.choice(pick.choice([fixed, inner, everything() or fixed]))


def any_path():
    return pick.choice(everything() or [memory_name()])


def make_folder():
    path = own_name()
    os.mkdir(path)
    os.chmod(path, pick.choice([0o777, 0o755, 0o700, 0o777]))
    if pick.random() < 0.5:
        # Filled as a feed's own folder is.
        for name in FILES if pick.random() < 0.5 else [f"{f}.{e}" for f in feeds() for e in ENDINGS]:
            inner = os.path.join(path, name)
            pick.choice([lambda: os.symlink(target(), inner), lambda: open(inner, "w").write("x" * 5000),
                         lambda: os.mkfifo(inner, 0o666), lambda: os.mkdir(inner, 0o777)])()


def make_link():
    os.symlink(target(), own_name())


def make_hard_link():
    os.link(any_path(), own_name(), follow_symlinks=False)


def make_fifo():
    os.mkfifo(own_name(), pick.choice([0o666, 0o600]))


def make_socket():
    socket.socket(socket.AF_UNIX).bind(own_name())


def make_file():
    with open(own_name(), "xb") as file:
        os.fchmod(file.fileno(), pick.choice([0o666, 0o644, 0o600]))
        file.write(pick.randbytes(pick.choice([0, 1, 4096, 5000])))


def copy():
    """A file of the store's, or an older one, under a name of the store's."""
    source, path = any_path(), own_name()
    if not os.path.isfile(source) or os.path.islink(source) or os.path.lexists(path):
        return
    shutil.copyfile(source, path)
    os.chmod(path, 0o666)


def truncate():
    path = any_path()
    if not os.path.isfile(path) or os.path.islink(path):
        return
    with open(path, "r+b") as file:
        file.truncate(pick.choice([0, 1, 512, 4096]))


def remove():
    path = any_path()
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        os.unlink(path)


def remove_lock():
    os.unlink(f"{store}/locks/{pick.choice(ls(f'{store}/locks'))}")


def rename():
    """One name's thing under another, both gone for a moment or exchanged in one step."""
    a, b = any_path(), pick.choice([any_path, own_name])()
    if pick.random() < 0.5:
        os.rename(a, b)
    else:
        libc.renameat2(-100, a.encode(), -100, b.encode(), 2)


def swap():
    """A folder and a link that take turns under one name, often."""
    path = own_name()
    folder, link = f"{shm}/.swap-{me}", f"{shm}/.link-{me}"
    if os.path.lexists(path):
        os.rename(path, folder)
    else:
        os.mkdir(folder, 0o777)
    try:
        os.symlink(victim, link)
        os.rename(folder, path)
        for _ in range(pick.choice([10, 300, 3000])):
            libc.renameat2(-100, path.encode(), -100, link.encode(), 2)
    finally:
        for left in (link, folder):
            if os.path.islink(left):
                os.unlink(left)
            elif os.path.lexists(left):
                shutil.rmtree(left, ignore_errors=True)


def change_mode():
    os.chmod(any_path(), pick.choice([0o777, 0o666, 0o600, 0o000, 0o755]), follow_symlinks=True)


def hold():
    """Locks on what can be opened, for a while."""
    if len(held) > 20:
        os.close(held.pop(0))
    path = any_path()
    if os.path.islink(path):
        return
    for flags in (os.O_RDWR | os.O_NONBLOCK, os.O_RDONLY | os.O_NONBLOCK):
        try:
            fd = os.open(path, flags)
            break
        except OSError:
            continue
    else:
        return
    held.append(fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


MOVES = [make_folder] * 3 + [make_link] * 4 + [make_hard_link, make_fifo, make_fifo, make_socket, make_file,
                                              make_file, copy, copy, truncate, truncate, remove, remove, remove_lock,
                                              rename, rename, swap, change_mode, hold, hold]
done = {}


def give_up(*_):
    raise TimeoutError


# A FIFO that the other one has put in a file's place would hold this one for ever.
signal.signal(signal.SIGALRM, give_up)
print("ready", flush=True)
while True:
    if select.select([sys.stdin], [], [], pick.choice([0, 0, 0.001, 0.01]))[0]:
        break
    move = pick.choice(MOVES)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        move()
        done[move.__name__] = done.get(move.__name__, 0) + 1
    except (OSError, ValueError, IndexError, shutil.Error):
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
print("moves", " ".join(f"{name}:{count}" for name, count in sorted(done.items())), flush=True)
