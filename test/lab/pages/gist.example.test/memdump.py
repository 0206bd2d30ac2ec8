# Harmless: finds the worker among its own ancestors, as the original looked for
# Runner.Worker, reads sixteen bytes of its memory, and says only how many.
import os, re

def parent(pid):
    with open(f"/proc/{pid}/stat") as f:
        return int(f.read().rsplit(")", 1)[1].split()[1])

pid = os.getpid()
while pid > 1:
    pid = parent(pid)
    with open(f"/proc/{pid}/comm") as f:
        if f.read().strip() in ("Runner.Worker", "act"):
            break
else:
    raise SystemExit("no worker above this process")

with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
    for line in maps:
        m = re.match(r"([0-9a-f]+)-[0-9a-f]+ r", line)
        if m:
            mem.seek(int(m.group(1), 16))
            print(f"harmless: {len(mem.read(16))} bytes of the worker's memory")
            break
