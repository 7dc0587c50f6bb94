"""Addresses that lead inside, or that are none. Names have a test with a resolver of its own."""

from tests.integration.hostile.case import Case, posted

URLS = [
    "http://169.254.169.254/latest/meta-data/", "http://[::ffff:169.254.169.254]/", "http://2852039166/",
    "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://2130706433/", "http://0x7f.1/",
    "http://0177.0.0.1/", "http://127.1/", "http://0/", "http://0.0.0.0/", "http://[::1]/", "http://[::]/",
    "http://[fe80::1%25eth0]/", "http://[fd00::1]/", "http://[fec0::1]/", "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/", "http://10.0.0.1/", "http://172.16.0.1/", "http://192.168.1.1/",
    "http://100.64.0.1/", "http://198.18.0.1/", "http://192.0.2.1/", "http://224.0.0.1/", "http://240.0.0.1/",
    "http://255.255.255.255/", "http://127.0.0.1:8000/", "http://localhost/",
    "https://localhost:443/", "http://127.0.0.1#@8.8.8.8/", "http://8.8.8.8@127.0.0.1/",
    "http://①②⑦.0.0.1/",
    "file:///etc/passwd", "gopher://8.8.8.8/", "ftp://8.8.8.8/", "dict://8.8.8.8/", "data:text/plain,x",
    "javascript:alert(1)", "//8.8.8.8/", "8.8.8.8", "", "http", "http:", "http://", "http:///path",
    "http:8.8.8.8",
    "http://user:secret@8.8.8.8/", "http://8.8.8.8:0/", "http://8.8.8.8:99999/", "http://8.8.8.8:port/",
    "http://8.8.8.8:-1/", "http://[8.8.8.8/", "http://[::1", "http://8.8.8.8/#fragment",
    "http://8.8.8.8/\r\nHost: x", "http://8.8.8.8/ a", " http://8.8.8.8/", "http://8.8.8.8/\t",
    "http://8.8.8.8/ä",
    "http://8.8.8.8/\0", "http://8.8.8.8\\@127.0.0.1/", "http://%31%32%37.0.0.1/", "unix:///run/x.sock",
]  # fmt: skip

CASES: list[Case] = [
    *(posted(f"to {ascii(u)[:60]}", "/webhooks", {"url": u}, "webhook_url_invalid") for u in URLS),
    *(
        posted(f"to {ascii(u)[:20]}", "/webhooks", {"url": u}, at="url")
        for u in ("http://8.8.8.8/" + "a" * 3000, None, 1, ["http://8.8.8.8/"])
    ),
    *(
        posted(f"of {ascii(e)[:40]}", "/webhooks", {"url": "https://8.8.8.8/", "events": e}, at="events")
        for e in ([], ["job.exploded"], ["*"], "job.succeeded", ["job.failed"] * 100, [1], None)
    ),
    *(
        posted(f"for {ascii(d)[:40]}", "/webhooks", {"url": "https://8.8.8.8/",
        "description": d}, at="description")
        for d in ("a\nb", "\x1b[2J", "x" * 201, None)
    ),
    posted("a secret of one's own", "/webhooks", {"url": "https://8.8.8.8/", "secret": "x"}, at="secret"),
]  # fmt: skip
