"""A buffer's journal, read as formats/buffer.md describes it and without a line of the programs that wrote it."""
import glob
import os
import struct
import subprocess


def unpack(data, at=0):
    """One msgpack value of data, and the offset behind it. Raises IndexError or struct.error when it is cut short."""
    head = data[at]
    at += 1

    def number(form):
        size = struct.calcsize(form)
        return struct.unpack_from(form, data, at)[0], at + size

    def raw(count, begin):
        if begin + count > len(data):
            raise IndexError("cut short")
        return bytes(data[begin:begin + count]), begin + count

    def array(count, begin):
        items = []
        for _ in range(count):
            item, begin = unpack(data, begin)
            items.append(item)
        return items, begin

    def mapping(count, begin):
        flat, begin = array(2 * count, begin)
        return dict(zip(flat[::2], flat[1::2])), begin

    def text(count, begin):
        value, begin = raw(count, begin)
        return value.decode(errors="replace"), begin

    if head < 0x80:
        return head, at
    if head < 0x90:
        return mapping(head & 15, at)
    if head < 0xa0:
        return array(head & 15, at)
    if head < 0xc0:
        return text(head & 31, at)
    if head >= 0xe0:
        return head - 256, at
    if head in (0xc0, 0xc2, 0xc3):
        return {0xc0: None, 0xc2: False, 0xc3: True}[head], at
    scalars = {0xca: ">f", 0xcb: ">d", 0xcc: ">B", 0xcd: ">H", 0xce: ">I", 0xcf: ">Q", 0xd0: ">b", 0xd1: ">h", 0xd2: ">i", 0xd3: ">q"}
    if head in scalars:
        return number(scalars[head])
    sized = {0xc4: (">B", raw), 0xc5: (">H", raw), 0xc6: (">I", raw), 0xd9: (">B", text), 0xda: (">H", text), 0xdb: (">I", text),
             0xdc: (">H", array), 0xdd: (">I", array), 0xde: (">H", mapping), 0xdf: (">I", mapping)}
    if head not in sized:
        raise ValueError(f"byte {head:#x} begins nothing that these formats use")
    form, read = sized[head]
    count, begin = number(form)
    return read(count, begin)


def values(data):
    """Each whole msgpack value at the front of data, and the offset behind it."""
    at = 0
    while at < len(data):
        try:
            value, at = unpack(data, at)
        except (IndexError, struct.error):
            break
        yield value, at


class Journal:
    """Yields every entry of a journal once, over any number of visits, in the order of its segments."""

    HEADER = struct.Struct("<II4sHHQIIQQQIIQ")

    def __init__(self, directory):
        self.directory = directory
        self.seen = {}  # segment's path -> bytes that were read

    def new_entries(self):
        for path in sorted(glob.glob(os.path.join(self.directory, "journal", "*.zst"))):
            with open(path, "rb") as file:
                file.seek(self.seen.get(path, 0))
                data = file.read()
            whole = self.whole_frames(data)
            if whole == 0:
                continue
            self.seen[path] = self.seen.get(path, 0) + whole
            raw = subprocess.run(["zstdcat"], input=data[:whole], stdout=subprocess.PIPE, check=True).stdout
            at = 0
            while at < len(raw):
                entry, at = unpack(raw, at)
                at += entry.get("payload", 0)
                yield entry

    def whole_frames(self, data):
        at = 0
        while at + self.HEADER.size <= len(data):
            fields = self.HEADER.unpack_from(data, at)
            end = at + self.HEADER.size + fields[6]
            if fields[0] != 0x184D2A5A or fields[2] != b"APRJ" or end > len(data):
                break
            at = end
        return at


