// The clean action: asks git, prints names.
const { execFileSync } = require("child_process");
const out = execFileSync("git", ["ls-files"], { encoding: "utf8" });
console.log(out.trim().split("\n").length + " files");
