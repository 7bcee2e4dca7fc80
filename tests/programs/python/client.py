"""Sends requests one after another and prints the count of its responses by status.

client.py requests|httpx URL COUNT MIX, where MIX is a JSON list of [method, path, body size] to cycle through.
"""

import collections
import json
import sys

library, url, count, mix = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
if library == "requests":
    import requests

    session = requests.Session()
    session.trust_env = False
    send = lambda method, target, data: session.request(method, target, data=data)
else:
    import httpx

    session = httpx.Client(trust_env=False)
    send = lambda method, target, data: session.request(method, target, content=data)

counts = collections.Counter()
with session:
    for i in range(count):
        method, path, size = mix[i % len(mix)]
        answer = send(method, url + path, b"x" * size if size else None)
        counts[str(answer.status_code)] += 1
print(json.dumps(counts))
