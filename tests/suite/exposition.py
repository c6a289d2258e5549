# A reader of Prometheus's exposition format, as far as dw-health uses it, that takes nothing else:
# written from the format's description, it prints every sample as JSON.
import json, re, sys
text = sys.stdin.buffer.read().decode()
assert text.endswith("\n"), "no newline at the end"
metric, kinds, done, seen = None, {}, set(), set()
for line in text[:-1].split("\n"):
    comment = re.fullmatch(r"# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)", line)
    if comment:
        what, name, rest = comment.groups()
        if what == "HELP":
            assert name not in kinds and name != metric, "told twice: " + line
            metric, kind = name, None
        else:
            assert name == metric and kind is None, "TYPE without its HELP: " + line
            assert rest in ("gauge", "counter"), line
            assert (rest == "counter") == name.endswith("_total"), line
            kinds[name] = kind = rest
        continue
    value = r'(?:[^"\\\n]|\\[\\"n])*'
    label = r'[a-zA-Z_][a-zA-Z0-9_]*="' + value + '"'
    sample = re.fullmatch(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{(" + label + "(?:," + label + r")*)\} (\S+)", line)
    assert sample, "no sample: " + line
    name, labels, number = sample.groups()
    assert name == metric and kinds[name], "outside its group: " + line
    found = re.findall(r'([a-zA-Z_][a-zA-Z0-9_]*)="(' + value + ')"', labels)
    assert len(dict(found)) == len(found), "a label twice: " + line
    assert (name, labels) not in seen, "a sample twice: " + line
    seen.add((name, labels))
    unescape = lambda text: re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], text)
    print(json.dumps({"name": name, "value": float(number), **{k: unescape(v) for k, v in found}}))
