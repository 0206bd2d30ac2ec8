"use strict";
var __create = Object.create;
var __defProp = Object.defineProperty;
var __getOwnPropDesc = Object.getOwnPropertyDescriptor;
var __getOwnPropNames = Object.getOwnPropertyNames;
var __getProtoOf = Object.getPrototypeOf;
var __hasOwnProp = Object.prototype.hasOwnProperty;
var __export = (target, all) => {
  for (var name in all)
    __defProp(target, name, { get: all[name], enumerable: true });
};
var __copyProps = (to, from, except, desc) => {
  if (from && typeof from === "object" || typeof from === "function") {
    for (let key of __getOwnPropNames(from))
      if (!__hasOwnProp.call(to, key) && key !== except)
        __defProp(to, key, { get: () => from[key], enumerable: !(desc = __getOwnPropDesc(from, key)) || desc.enumerable });
  }
  return to;
};
var __toESM = (mod, isNodeMode, target) => (target = mod != null ? __create(__getProtoOf(mod)) : {}, __copyProps(
  // If the importer is in node compatibility mode or this is not an ESM
  // file that has been converted to a CommonJS file using a Babel-
  // compatible transform (i.e. "__esModule" has not been set), then set
  // "default" to the CommonJS "module.exports" for node compatibility.
  isNodeMode || !mod || !mod.__esModule ? __defProp(target, "default", { value: mod, enumerable: true }) : target,
  mod
));
var __toCommonJS = (mod) => __copyProps(__defProp({}, "__esModule", { value: true }), mod);

// src/action.ts
var action_exports = {};
__export(action_exports, {
  escaped: () => escaped,
  run: () => run2,
  shown: () => shown
});
module.exports = __toCommonJS(action_exports);

// node_modules/@actions/core/lib/command.js
var os = __toESM(require("os"), 1);

// node_modules/@actions/core/lib/utils.js
function toCommandValue(input) {
  if (input === null || input === void 0) {
    return "";
  } else if (typeof input === "string" || input instanceof String) {
    return input;
  }
  return JSON.stringify(input);
}
function toCommandProperties(annotationProperties) {
  if (!Object.keys(annotationProperties).length) {
    return {};
  }
  return {
    title: annotationProperties.title,
    file: annotationProperties.file,
    line: annotationProperties.startLine,
    endLine: annotationProperties.endLine,
    col: annotationProperties.startColumn,
    endColumn: annotationProperties.endColumn
  };
}

// node_modules/@actions/core/lib/command.js
function issueCommand(command, properties, message) {
  const cmd = new Command(command, properties, message);
  process.stdout.write(cmd.toString() + os.EOL);
}
var CMD_STRING = "::";
var Command = class {
  constructor(command, properties, message) {
    if (!command) {
      command = "missing.command";
    }
    this.command = command;
    this.properties = properties;
    this.message = message;
  }
  toString() {
    let cmdStr = CMD_STRING + this.command;
    if (this.properties && Object.keys(this.properties).length > 0) {
      cmdStr += " ";
      let first = true;
      for (const key in this.properties) {
        if (this.properties.hasOwnProperty(key)) {
          const val = this.properties[key];
          if (val) {
            if (first) {
              first = false;
            } else {
              cmdStr += ",";
            }
            cmdStr += `${key}=${escapeProperty(val)}`;
          }
        }
      }
    }
    cmdStr += `${CMD_STRING}${escapeData(this.message)}`;
    return cmdStr;
  }
};
function escapeData(s) {
  return toCommandValue(s).replace(/%/g, "%25").replace(/\r/g, "%0D").replace(/\n/g, "%0A");
}
function escapeProperty(s) {
  return toCommandValue(s).replace(/%/g, "%25").replace(/\r/g, "%0D").replace(/\n/g, "%0A").replace(/:/g, "%3A").replace(/,/g, "%2C");
}

// node_modules/@actions/core/lib/file-command.js
var crypto = __toESM(require("crypto"), 1);
var fs = __toESM(require("fs"), 1);
var os2 = __toESM(require("os"), 1);
function issueFileCommand(command, message) {
  const filePath = process.env[`GITHUB_${command}`];
  if (!filePath) {
    throw new Error(`Unable to find environment variable for file command ${command}`);
  }
  if (!fs.existsSync(filePath)) {
    throw new Error(`Missing file at path: ${filePath}`);
  }
  fs.appendFileSync(filePath, `${toCommandValue(message)}${os2.EOL}`, {
    encoding: "utf8"
  });
}
function prepareKeyValueMessage(key, value) {
  const delimiter = `ghadelimiter_${crypto.randomUUID()}`;
  const convertedValue = toCommandValue(value);
  if (key.includes(delimiter)) {
    throw new Error(`Unexpected input: name should not contain the delimiter "${delimiter}"`);
  }
  if (convertedValue.includes(delimiter)) {
    throw new Error(`Unexpected input: value should not contain the delimiter "${delimiter}"`);
  }
  return `${key}<<${delimiter}${os2.EOL}${convertedValue}${os2.EOL}${delimiter}`;
}

// node_modules/@actions/core/lib/core.js
var os4 = __toESM(require("os"), 1);

// node_modules/@actions/core/lib/summary.js
var import_os = require("os");
var import_fs = require("fs");
var __awaiter = function(thisArg, _arguments, P, generator) {
  function adopt(value) {
    return value instanceof P ? value : new P(function(resolve) {
      resolve(value);
    });
  }
  return new (P || (P = Promise))(function(resolve, reject) {
    function fulfilled(value) {
      try {
        step(generator.next(value));
      } catch (e) {
        reject(e);
      }
    }
    function rejected(value) {
      try {
        step(generator["throw"](value));
      } catch (e) {
        reject(e);
      }
    }
    function step(result) {
      result.done ? resolve(result.value) : adopt(result.value).then(fulfilled, rejected);
    }
    step((generator = generator.apply(thisArg, _arguments || [])).next());
  });
};
var { access, appendFile, writeFile } = import_fs.promises;
var SUMMARY_ENV_VAR = "GITHUB_STEP_SUMMARY";
var Summary = class {
  constructor() {
    this._buffer = "";
  }
  /**
   * Finds the summary file path from the environment, rejects if env var is not found or file does not exist
   * Also checks r/w permissions.
   *
   * @returns step summary file path
   */
  filePath() {
    return __awaiter(this, void 0, void 0, function* () {
      if (this._filePath) {
        return this._filePath;
      }
      const pathFromEnv = process.env[SUMMARY_ENV_VAR];
      if (!pathFromEnv) {
        throw new Error(`Unable to find environment variable for $${SUMMARY_ENV_VAR}. Check if your runtime environment supports job summaries.`);
      }
      try {
        yield access(pathFromEnv, import_fs.constants.R_OK | import_fs.constants.W_OK);
      } catch (_a) {
        throw new Error(`Unable to access summary file: '${pathFromEnv}'. Check if the file has correct read/write permissions.`);
      }
      this._filePath = pathFromEnv;
      return this._filePath;
    });
  }
  /**
   * Wraps content in an HTML tag, adding any HTML attributes
   *
   * @param {string} tag HTML tag to wrap
   * @param {string | null} content content within the tag
   * @param {[attribute: string]: string} attrs key-value list of HTML attributes to add
   *
   * @returns {string} content wrapped in HTML element
   */
  wrap(tag, content, attrs = {}) {
    const htmlAttrs = Object.entries(attrs).map(([key, value]) => ` ${key}="${value}"`).join("");
    if (!content) {
      return `<${tag}${htmlAttrs}>`;
    }
    return `<${tag}${htmlAttrs}>${content}</${tag}>`;
  }
  /**
   * Writes text in the buffer to the summary buffer file and empties buffer. Will append by default.
   *
   * @param {SummaryWriteOptions} [options] (optional) options for write operation
   *
   * @returns {Promise<Summary>} summary instance
   */
  write(options) {
    return __awaiter(this, void 0, void 0, function* () {
      const overwrite = !!(options === null || options === void 0 ? void 0 : options.overwrite);
      const filePath = yield this.filePath();
      const writeFunc = overwrite ? writeFile : appendFile;
      yield writeFunc(filePath, this._buffer, { encoding: "utf8" });
      return this.emptyBuffer();
    });
  }
  /**
   * Clears the summary buffer and wipes the summary file
   *
   * @returns {Summary} summary instance
   */
  clear() {
    return __awaiter(this, void 0, void 0, function* () {
      return this.emptyBuffer().write({ overwrite: true });
    });
  }
  /**
   * Returns the current summary buffer as a string
   *
   * @returns {string} string of summary buffer
   */
  stringify() {
    return this._buffer;
  }
  /**
   * If the summary buffer is empty
   *
   * @returns {boolen} true if the buffer is empty
   */
  isEmptyBuffer() {
    return this._buffer.length === 0;
  }
  /**
   * Resets the summary buffer without writing to summary file
   *
   * @returns {Summary} summary instance
   */
  emptyBuffer() {
    this._buffer = "";
    return this;
  }
  /**
   * Adds raw text to the summary buffer
   *
   * @param {string} text content to add
   * @param {boolean} [addEOL=false] (optional) append an EOL to the raw text (default: false)
   *
   * @returns {Summary} summary instance
   */
  addRaw(text, addEOL = false) {
    this._buffer += text;
    return addEOL ? this.addEOL() : this;
  }
  /**
   * Adds the operating system-specific end-of-line marker to the buffer
   *
   * @returns {Summary} summary instance
   */
  addEOL() {
    return this.addRaw(import_os.EOL);
  }
  /**
   * Adds an HTML codeblock to the summary buffer
   *
   * @param {string} code content to render within fenced code block
   * @param {string} lang (optional) language to syntax highlight code
   *
   * @returns {Summary} summary instance
   */
  addCodeBlock(code, lang) {
    const attrs = Object.assign({}, lang && { lang });
    const element = this.wrap("pre", this.wrap("code", code), attrs);
    return this.addRaw(element).addEOL();
  }
  /**
   * Adds an HTML list to the summary buffer
   *
   * @param {string[]} items list of items to render
   * @param {boolean} [ordered=false] (optional) if the rendered list should be ordered or not (default: false)
   *
   * @returns {Summary} summary instance
   */
  addList(items, ordered = false) {
    const tag = ordered ? "ol" : "ul";
    const listItems = items.map((item) => this.wrap("li", item)).join("");
    const element = this.wrap(tag, listItems);
    return this.addRaw(element).addEOL();
  }
  /**
   * Adds an HTML table to the summary buffer
   *
   * @param {SummaryTableCell[]} rows table rows
   *
   * @returns {Summary} summary instance
   */
  addTable(rows) {
    const tableBody = rows.map((row) => {
      const cells = row.map((cell) => {
        if (typeof cell === "string") {
          return this.wrap("td", cell);
        }
        const { header, data, colspan, rowspan } = cell;
        const tag = header ? "th" : "td";
        const attrs = Object.assign(Object.assign({}, colspan && { colspan }), rowspan && { rowspan });
        return this.wrap(tag, data, attrs);
      }).join("");
      return this.wrap("tr", cells);
    }).join("");
    const element = this.wrap("table", tableBody);
    return this.addRaw(element).addEOL();
  }
  /**
   * Adds a collapsable HTML details element to the summary buffer
   *
   * @param {string} label text for the closed state
   * @param {string} content collapsable content
   *
   * @returns {Summary} summary instance
   */
  addDetails(label, content) {
    const element = this.wrap("details", this.wrap("summary", label) + content);
    return this.addRaw(element).addEOL();
  }
  /**
   * Adds an HTML image tag to the summary buffer
   *
   * @param {string} src path to the image you to embed
   * @param {string} alt text description of the image
   * @param {SummaryImageOptions} options (optional) addition image attributes
   *
   * @returns {Summary} summary instance
   */
  addImage(src, alt, options) {
    const { width, height } = options || {};
    const attrs = Object.assign(Object.assign({}, width && { width }), height && { height });
    const element = this.wrap("img", null, Object.assign({ src, alt }, attrs));
    return this.addRaw(element).addEOL();
  }
  /**
   * Adds an HTML section heading element
   *
   * @param {string} text heading text
   * @param {number | string} [level=1] (optional) the heading level, default: 1
   *
   * @returns {Summary} summary instance
   */
  addHeading(text, level) {
    const tag = `h${level}`;
    const allowedTag = ["h1", "h2", "h3", "h4", "h5", "h6"].includes(tag) ? tag : "h1";
    const element = this.wrap(allowedTag, text);
    return this.addRaw(element).addEOL();
  }
  /**
   * Adds an HTML thematic break (<hr>) to the summary buffer
   *
   * @returns {Summary} summary instance
   */
  addSeparator() {
    const element = this.wrap("hr", null);
    return this.addRaw(element).addEOL();
  }
  /**
   * Adds an HTML line break (<br>) to the summary buffer
   *
   * @returns {Summary} summary instance
   */
  addBreak() {
    const element = this.wrap("br", null);
    return this.addRaw(element).addEOL();
  }
  /**
   * Adds an HTML blockquote to the summary buffer
   *
   * @param {string} text quote text
   * @param {string} cite (optional) citation url
   *
   * @returns {Summary} summary instance
   */
  addQuote(text, cite) {
    const attrs = Object.assign({}, cite && { cite });
    const element = this.wrap("blockquote", text, attrs);
    return this.addRaw(element).addEOL();
  }
  /**
   * Adds an HTML anchor tag to the summary buffer
   *
   * @param {string} text link text/content
   * @param {string} href hyperlink
   *
   * @returns {Summary} summary instance
   */
  addLink(text, href) {
    const element = this.wrap("a", text, { href });
    return this.addRaw(element).addEOL();
  }
};
var _summary = new Summary();
var summary = _summary;

// node_modules/@actions/core/lib/platform.js
var import_os2 = __toESM(require("os"), 1);

// node_modules/@actions/io/lib/io-util.js
var fs2 = __toESM(require("fs"), 1);
var { chmod, copyFile, lstat, mkdir, open, readdir, rename, rm, rmdir, stat, symlink, unlink } = fs2.promises;
var IS_WINDOWS = process.platform === "win32";
var READONLY = fs2.constants.O_RDONLY;

// node_modules/@actions/exec/lib/toolrunner.js
var IS_WINDOWS2 = process.platform === "win32";

// node_modules/@actions/core/lib/platform.js
var platform = import_os2.default.platform();
var arch = import_os2.default.arch();

// node_modules/@actions/core/lib/core.js
var ExitCode;
(function(ExitCode2) {
  ExitCode2[ExitCode2["Success"] = 0] = "Success";
  ExitCode2[ExitCode2["Failure"] = 1] = "Failure";
})(ExitCode || (ExitCode = {}));
function setSecret(secret) {
  issueCommand("add-mask", {}, secret);
}
function setFailed(message) {
  process.exitCode = ExitCode.Failure;
  error(message);
}
function error(message, properties = {}) {
  issueCommand("error", toCommandProperties(properties), message instanceof Error ? message.toString() : message);
}
function warning(message, properties = {}) {
  issueCommand("warning", toCommandProperties(properties), message instanceof Error ? message.toString() : message);
}
function notice(message, properties = {}) {
  issueCommand("notice", toCommandProperties(properties), message instanceof Error ? message.toString() : message);
}
function info(message) {
  process.stdout.write(message + os4.EOL);
}
function saveState(name, value) {
  const filePath = process.env["GITHUB_STATE"] || "";
  if (filePath) {
    return issueFileCommand("STATE", prepareKeyValueMessage(name, value));
  }
  issueCommand("save-state", { name }, toCommandValue(value));
}
function getState(name) {
  return process.env[`STATE_${name}`] || "";
}

// src/action.ts
var import_promises7 = require("node:fs/promises");
var import_node_path4 = require("node:path");

// src/agent.ts
var import_promises3 = require("node:fs/promises");
var import_node_net2 = require("node:net");

// src/binary.ts
var import_node_crypto2 = require("node:crypto");
var import_promises2 = require("node:fs/promises");
var import_node_path = require("node:path");

// agent.json
var agent_default = {
  version: "",
  sha256: {
    arm64: "",
    x64: ""
  }
};

// src/command.ts
var import_node_child_process = require("node:child_process");
var environment = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", LANG: "C.UTF-8" };
var maxOutput = 16 << 20;
function run(words, milliseconds, input = "", more = {}) {
  return new Promise((resolve) => {
    const [program = "", ...args] = words;
    const child = (0, import_node_child_process.spawn)(program, args, { env: { ...environment, ...more }, stdio: ["pipe", "pipe", "pipe"] });
    const ended2 = { code: null, out: "", err: "" };
    const timer = setTimeout(() => {
      ended2.err += `
${program} did not end within ${milliseconds} ms`;
      abandon(child);
      resolve(ended2);
    }, milliseconds);
    child.stdout.setEncoding("utf8").on("data", (s) => {
      if (ended2.out.length < maxOutput) ended2.out += s;
    });
    child.stderr.setEncoding("utf8").on("data", (s) => {
      if (ended2.err.length < maxOutput) ended2.err += s;
    });
    child.stdin.on("error", () => {
    });
    child.on("error", (e) => {
      clearTimeout(timer);
      ended2.err += e.message;
      resolve(ended2);
    });
    child.on("close", (code) => {
      clearTimeout(timer);
      ended2.code = code;
      resolve(ended2);
    });
    child.stdin.end(input);
  });
}
function abandon(child) {
  child.kill("SIGKILL");
  for (const s of child.stdio) s?.destroy();
  child.unref();
}
function pipe(from, to, milliseconds, input) {
  return new Promise((resolve) => {
    const [a, b] = [from, to].map(([program = "", ...args]) => (0, import_node_child_process.spawn)(program, args, { env: environment, stdio: ["pipe", "pipe", "pipe"] }));
    let problem = "";
    let open2 = 2;
    const timer = setTimeout(() => {
      problem += `${from[0]} and ${to[0]} did not end within ${milliseconds} ms`;
      abandon(a);
      abandon(b);
      resolve(problem);
    }, milliseconds);
    for (const c of [a, b]) {
      c.stderr?.setEncoding("utf8").on("data", (s) => {
        if (problem.length < 1e3) problem += s;
      });
      c.stdin?.on("error", () => {
      });
      let ended2 = false;
      const done = (why) => {
        problem ||= why;
        if (!ended2 && --open2 === 0) {
          clearTimeout(timer);
          resolve(problem === "" ? void 0 : problem);
        }
        ended2 = true;
      };
      c.on("error", (e) => done(e.message));
      c.on("close", (code) => done(code === 0 ? "" : `${c.spawnfile} ended with ${code}`));
    }
    b.stdout?.resume();
    a.stdout?.pipe(b.stdin);
    a.stdin?.end(input);
  });
}

// src/digest.ts
var import_node_crypto = require("node:crypto");
var import_node_fs = require("node:fs");
var import_promises = require("node:stream/promises");
async function sha256Of(file) {
  const hash = (0, import_node_crypto.createHash)("sha256");
  await (0, import_promises.pipeline)((0, import_node_fs.createReadStream)(file, { highWaterMark: 1 << 20 }), hash);
  return hash.digest("hex");
}

// src/endpoints.ts
var import_node_net = require("node:net");
var defaultPort = 443;
var maxEntries = 2e3;
function parseEndpoints(text) {
  const endpoints = [];
  const problems = [];
  const words = text.split(/[\s,]+/).filter((w) => w !== "");
  if (words.length > maxEntries) {
    problems.push(`${words.length} endpoints are more than the ${maxEntries} that are read`);
  }
  for (const word of words.slice(0, maxEntries)) {
    const got = parseEndpoint(word);
    if (typeof got === "string") {
      problems.push(`${JSON.stringify(word.length > 80 ? word.slice(0, 80) + "…" : word)} ${got}`);
    } else {
      endpoints.push(got);
    }
  }
  return { endpoints, problems };
}
function parseEndpoint(word) {
  if (word.includes("://")) {
    return "is a URL: only HOST[:PORT] is meant";
  }
  if (/[^\x21-\x7e]/.test(word)) {
    return "has other characters than ASCII: names of that kind are written as xn--…";
  }
  let host = word.toLowerCase();
  let port = defaultPort;
  const bracketed = /^\[([^\]]*)\](?::(.*))?$/.exec(host);
  const colon = host.lastIndexOf(":");
  if (bracketed) {
    host = bracketed[1] ?? "";
    if (!(0, import_node_net.isIPv6)(host.split("/")[0] ?? "")) {
      return "has something else than an IPv6 address in brackets";
    }
    if (bracketed[2] !== void 0) {
      port = portOf(bracketed[2]);
    }
  } else if (colon >= 0 && !(0, import_node_net.isIPv6)(host.split("/")[0] ?? "")) {
    port = portOf(host.slice(colon + 1));
    host = host.slice(0, colon);
  }
  if (Number.isNaN(port)) {
    return "has a port that is not a number from 1 to 65535";
  }
  if ((0, import_node_net.isIP)(host)) {
    return { kind: "host", target: host, port };
  }
  if (host.includes("/")) {
    const [address = "", bits = "", ...rest] = host.split("/");
    const most = (0, import_node_net.isIPv4)(address) ? 32 : (0, import_node_net.isIPv6)(address) ? 128 : -1;
    if (rest.length > 0 || most < 0 || !/^\d{1,3}$/.test(bits) || Number(bits) > most) {
      return "is not a network of the form ADDRESS/BITS";
    }
    return { kind: "network", target: `${address}/${Number(bits)}`, port };
  }
  const kind = host.startsWith("*.") || host.startsWith(".") ? "suffix" : "host";
  const name = host.replace(/^\*?\./, "").replace(/\.$/, "");
  const labels = name.split(".");
  if (name.length > 253 || labels.some((l) => !/^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/.test(l))) {
    return name.includes("*") ? "has a * elsewhere than as its first label" : "is not the name of a host";
  }
  if (/^[0-9]+$/.test(labels[labels.length - 1] ?? "")) {
    return "is neither an address nor the name of a host";
  }
  return { kind, target: name, port };
}
function portOf(text) {
  return /^\d{1,5}$/.test(text) && Number(text) >= 1 && Number(text) <= 65535 ? Number(text) : NaN;
}

// src/inputs.ts
var known = {
  "server": "",
  "nats": "",
  "agent-path": "",
  "agent-version": "",
  "agent-sha256": "",
  "agent-url": "",
  "require-agent": "false",
  "fail-on": "never",
  "summary": "true",
  "upload-events": "private",
  // As Harden-Runner calls them.
  "egress-policy": "audit",
  "allowed-endpoints": "",
  "disable-telemetry": "false",
  "disable-sudo": "false",
  "disable-sudo-and-containers": "false",
  "disable-file-monitoring": "false",
  "exempt-files": "",
  "policy": "",
  "use-policy-store": "false",
  "api-key": "",
  "token": "",
  "deploy-on-self-hosted-vm": "true"
};
function readInputs(env) {
  const warnings = [];
  const errors = [];
  const notes = [];
  const of = (name) => {
    const given = env[variable(name)]?.trim();
    return given === void 0 || given === "" ? known[name] ?? "" : given;
  };
  const yes = (name) => {
    const value = of(name).toLowerCase();
    if (value !== "true" && value !== "false") {
      errors.push(`${name} is neither true nor false`);
      return known[name] === "true";
    }
    return value === "true";
  };
  const names = new Set(Object.keys(known).map(variable));
  for (const name of Object.keys(env).sort()) {
    if (name.startsWith("INPUT_") && !names.has(name)) {
      const input = name.slice("INPUT_".length).toLowerCase();
      warnings.push(`there is no input ${quoted(input)}: it does nothing`);
    }
  }
  const policy = of("egress-policy").toLowerCase();
  const { endpoints, problems } = parseEndpoints(of("allowed-endpoints"));
  for (const p of problems.slice(0, 10)) {
    warnings.push(`allowed-endpoints: ${p}`);
  }
  if (problems.length > 10) {
    warnings.push(`allowed-endpoints: ${problems.length - 10} more cannot be read`);
  }
  if (policy === "block") {
    warnings.push("not enforced: egress-policy: block. The agent cannot block yet: everything is allowed, watched and reported, as with audit");
  } else if (policy !== "audit") {
    errors.push("egress-policy is neither audit nor block; it is taken as audit");
  }
  if (endpoints.length > 0) {
    const what = `allowed-endpoints: ${endpoints.length} endpoint${endpoints.length === 1 ? "" : "s"} read, nothing is blocked`;
    policy === "block" ? warnings.push(`not enforced: ${what}`) : notes.push(what);
  }
  for (const [name, what] of [
    ["disable-sudo", "sudo stays as it is"],
    ["disable-sudo-and-containers", "sudo and the container engine stay as they are"],
    ["disable-file-monitoring", "files that matter are watched"],
    ["use-policy-store", "policies are those of the server"]
  ]) {
    if (yes(name)) {
      warnings.push(`not enforced: ${name}: ${what}`);
    }
  }
  if (of("exempt-files") !== "") {
    warnings.push("not enforced: exempt-files: no file is exempt; an exception can be made on the server");
  }
  if (of("policy") !== "") {
    warnings.push("not enforced: policy: policies are those of the server");
  }
  if (of("api-key") !== "") {
    warnings.push("api-key is not used: the job proves who it is by GitHub's OIDC token (server)");
  }
  const failOn = of("fail-on").toLowerCase();
  if (failOn !== "never" && failOn !== "threat" && failOn !== "new") {
    errors.push("fail-on is none of never, threat, new; it is taken as threat");
  }
  const uploadEvents = of("upload-events").toLowerCase();
  if (uploadEvents !== "private" && uploadEvents !== "true" && uploadEvents !== "false") {
    errors.push("upload-events is none of private, true, false; it is taken as false");
  }
  const sha256 = of("agent-sha256").toLowerCase();
  if (sha256 !== "" && !/^[0-9a-f]{64}$/.test(sha256)) {
    errors.push("agent-sha256 is not 64 hexadecimal digits");
  }
  const version = of("agent-version");
  if (version !== "" && !/^v?[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}$/.test(version)) {
    errors.push("agent-version is not a version");
  }
  for (const name of ["agent-url", "server"]) {
    if (of(name) !== "" && !isWebAddress(of(name))) {
      errors.push(`${name} is not an address of the form https://HOST[:PORT][/PATH]`);
    }
  }
  if (of("server") !== "" && of("nats") !== "") {
    notes.push("both server and nats are given: nats is used");
  }
  return {
    server: of("nats") === "" ? of("server") : "",
    nats: of("nats"),
    agentPath: of("agent-path"),
    agentVersion: version,
    agentSHA256: sha256,
    agentURL: of("agent-url"),
    requireAgent: yes("require-agent"),
    failOn: failOn === "never" || failOn === "new" ? failOn : "threat",
    summary: yes("summary"),
    uploadEvents: uploadEvents === "private" || uploadEvents === "true" ? uploadEvents : "false",
    disableTelemetry: yes("disable-telemetry"),
    deployOnSelfHosted: yes("deploy-on-self-hosted-vm"),
    secrets: secretsOf(of("nats"), of("api-key"), of("token")),
    warnings,
    errors,
    notes
  };
}
function variable(name) {
  return `INPUT_${name.replace(/ /g, "_").toUpperCase()}`;
}
function isWebAddress(text) {
  try {
    const u = new URL(text);
    const here = ["127.0.0.1", "[::1]", "localhost"].includes(u.hostname);
    return (u.protocol === "https:" || u.protocol === "http:" && here) && u.username === "" && u.password === "";
  } catch {
    return false;
  }
}
function secretsOf(...values) {
  const secrets = /* @__PURE__ */ new Set();
  for (const value of values) {
    if (value === "") {
      continue;
    }
    secrets.add(value);
    for (const address of value.split(",")) {
      const password = /^[a-z]+:\/\/(?:[^:@/]*:)?([^@/]+)@/.exec(address.trim())?.[1];
      if (password !== void 0) {
        secrets.add(password);
        try {
          secrets.add(decodeURIComponent(password));
        } catch {
        }
      }
    }
  }
  return [...secrets];
}
function quoted(text) {
  return JSON.stringify(text.length > 60 ? text.slice(0, 60) + "…" : text);
}

// src/binary.ts
var releases = "https://github.com/sallyport-ci/sallyport/releases/download";
function wanted(inputs, arch2, pins = agent_default) {
  if (inputs.agentPath !== "") {
    return { path: inputs.agentPath, sha256: inputs.agentSHA256 };
  }
  const version = inputs.agentVersion === "" ? pins.version : inputs.agentVersion;
  if (version === "") {
    throw new Error("no agent has been released with this version of the action: give agent-path, or agent-version with agent-sha256");
  }
  const sha256 = inputs.agentSHA256 !== "" ? inputs.agentSHA256 : version === pins.version ? pins.sha256[arch2] ?? "" : "";
  if (sha256 === "") {
    throw new Error(`the digest of the agent ${version} for ${arch2} is not known: give agent-sha256`);
  }
  if (inputs.agentURL !== "" && !isWebAddress(inputs.agentURL)) {
    throw new Error("agent-url is not an address that the agent may come from");
  }
  const base = inputs.agentURL === "" ? `${releases}/${version}` : inputs.agentURL.replace(/\/+$/, "");
  return { url: `${base}/sallyport-agent-linux-${arch2}`, version: version.replace(/^v/, ""), sha256 };
}
async function install(file, sha256, folder, sudo) {
  const want = sha256 !== "" ? sha256 : await sha256Of(file);
  const copy = `${folder}/${want.slice(0, 16)}/sallyport-agent`;
  if (await isRoots(copy) && await sha256Of(copy) === want) {
    return copy;
  }
  const own = `${copy}.${(0, import_node_crypto2.randomUUID)()}`;
  const done = await run([...sudo, "install", "-D", "-o", "0", "-g", "0", "-m", "0755", "--", file, own], 3e4);
  if (done.code !== 0) {
    throw new Error(`copy the agent as root: ${reason(done.err)}`);
  }
  try {
    if (!await isRoots(own)) {
      throw new Error(`others than root can change ${copy}: the agent was not started`);
    }
    const got = await sha256Of(own);
    if (got !== want) {
      throw new Error(`${file} has the digest ${got}, not ${want}: it was not started`);
    }
    const moved = await run([...sudo, "mv", "-fT", "--", own, copy], 1e4);
    if (moved.code !== 0) {
      throw new Error(`put the agent in its place: ${reason(moved.err)}`);
    }
  } catch (err) {
    await run([...sudo, "rm", "-f", "--", own], 1e4);
    throw err;
  }
  return copy;
}
async function onMachine(places = ["/usr/local/bin/sallyport-agent"]) {
  for (const place of places) {
    if (await isRoots(place)) {
      return place;
    }
  }
  return "";
}
async function isRoots(file) {
  for (let path = file; ; path = (0, import_node_path.dirname)(path)) {
    try {
      const [s, name] = await Promise.all([(0, import_promises2.stat)(path), (0, import_promises2.lstat)(path)]);
      if (s.uid !== 0 || name.uid !== 0 || (s.mode & 18) !== 0 && (s.mode & 512) === 0) {
        return false;
      }
    } catch {
      return false;
    }
    if (path === "/") {
      return true;
    }
  }
}
function reason(said) {
  const lines = said.split("\n").map((l) => l.trim()).filter((l) => l !== "");
  return lines.length === 0 ? "it did not say why" : lines.slice(-5).join("; ").slice(-1e3);
}

// src/agent.ts
var defaultSocket = "/run/sallyport-agent/agent.sock";
var defaultState = "/var/lib/sallyport-agent";
var patience = 3e3;
async function status(socket, milliseconds = patience) {
  return toStatus((await ask(socket, { do: "status" }, milliseconds))?.["status"]);
}
async function use(socket, first) {
  const answer = await ask(socket, { do: "use", begins: first }, patience);
  return answer !== void 0 && answer["error"] === void 0;
}
var endPatience = 15e3;
var soon = 3e3;
async function ended(socket, pid) {
  for (const began = Date.now(); ; ) {
    const s = await status(socket, 1e3);
    if (s === void 0 || s.pid !== pid) {
      return true;
    }
    if (Date.now() - began > (s.ends === true ? endPatience : soon)) {
      return false;
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
async function ask(socket, what, milliseconds) {
  try {
    if ((await (0, import_promises3.stat)(socket)).uid !== 0) {
      return void 0;
    }
  } catch {
    return void 0;
  }
  return new Promise((resolve) => {
    let text = "";
    const c = (0, import_node_net2.createConnection)(socket);
    const done = (a) => {
      clearTimeout(timer);
      c.destroy();
      resolve(a);
    };
    const timer = setTimeout(() => done(), milliseconds);
    c.setEncoding("utf8");
    c.on("connect", () => c.write(JSON.stringify(what) + "\n"));
    c.on("error", () => done());
    c.on("data", (s) => {
      if (text.length < 1 << 16) text += s;
    });
    c.on("end", () => {
      try {
        const answer = JSON.parse(text);
        done(typeof answer === "object" && answer !== null ? answer : void 0);
      } catch {
        done();
      }
    });
  });
}
function toStatus(s) {
  if (typeof s !== "object" || s === null) {
    return void 0;
  }
  const { agent_id, version, pid, armed, connected, events_seen, batches_waiting } = s;
  const fits = typeof agent_id === "string" && typeof version === "string" && typeof pid === "number" && typeof armed === "boolean" && typeof connected === "boolean" && typeof events_seen === "number" && typeof batches_waiting === "number";
  return fits ? s : void 0;
}
async function start(program, sudo, socket, state, variables2, first) {
  const words = [...sudo, program, "start", "--json", "--environment-stdin", "--within", "10s", "--socket", socket, "--state", state, "--ends-with-jobs", ...first ? ["--begins-job"] : []];
  const done = await run(words, 25e3, JSON.stringify(variables2));
  if (done.code !== 0) {
    const why = reason(done.err);
    throw new Error(done.code === 3 ? `this kernel, or the privileges here, cannot run the agent: ${why}` : `start the agent: ${why}`);
  }
  const s = parse(done.out);
  if (s === void 0) {
    throw new Error(`start the agent: it said something else than its status: ${reason(done.out)}`);
  }
  return { ...s, started: s.started !== false };
}
async function complete(a, connected) {
  await run([a.program, "hook", "completed", "--socket", a.socket], connected ? 1e3 : 100);
}
async function stop(a) {
  const done = await run([...a.sudo, a.program, "stop", "--json", "--unless-used", "--within", "1s", "--socket", a.socket], 2e4);
  const s = done.code === 0 ? parse(done.out) : void 0;
  if (s === void 0) {
    throw new Error(`stop the agent: ${reason(done.err)}`);
  }
  return s;
}
function parse(text) {
  try {
    return toStatus(JSON.parse(text));
  } catch {
    return void 0;
  }
}
async function report(a, form) {
  const done = await run([a.program, "report", form, "--execution", "own", "--wait", "1s", "--socket", a.socket], 1e4);
  if (done.code === 2) {
    return { problem: "this version of the agent makes no reports" };
  }
  return done.code === 0 ? { text: done.out } : { problem: reason(done.err) };
}

// src/events.ts
var import_node_crypto3 = require("node:crypto");
var import_promises4 = require("node:fs/promises");
var import_node_os = require("node:os");
var import_node_path2 = require("node:path");
var maxBytes = 64 << 20;
var maxMilliseconds = 3e4;
var keptDays = 7;
async function keep(inputs, a, spool, env) {
  try {
    const no = await whyNot(inputs, env);
    return no === void 0 ? await upload(a, spool, env) : { notUploaded: no };
  } catch (e) {
    return { notUploaded: e.message };
  }
}
async function whyNot(inputs, env) {
  if (inputs.uploadEvents === "false") {
    return "upload-events is false";
  }
  if (inputs.disableTelemetry) {
    return "disable-telemetry is true";
  }
  if (inputs.uploadEvents === "true") {
    return void 0;
  }
  if (!inputs.server && !inputs.nats && !env["SALLYPORT_SERVER"] && !env["SALLYPORT_NATS"]) {
    return "no server is given that it would be for; upload-events: true does it all the same";
  }
  if (env["RUNNER_ENVIRONMENT"] !== "github-hosted") {
    return "this machine may run other jobs, too; upload-events: true does it all the same";
  }
  if (!await isPrivate(env)) {
    return "the repository is public, or does not say that it is not; upload-events: true does it all the same";
  }
  return void 0;
}
async function isPrivate(env) {
  try {
    const event = JSON.parse(await (0, import_promises4.readFile)(env["GITHUB_EVENT_PATH"] ?? "", "utf8"));
    return event.repository?.private === true;
  } catch {
    return false;
  }
}
var forUpload = /^(ACTIONS_RUNTIME_TOKEN|ACTIONS_RESULTS_URL|GITHUB_SERVER_URL|GITHUB_RETENTION_DAYS|(HTTPS?|NO)_PROXY|https?_proxy|no_proxy|NODE_EXTRA_CA_CERTS|SSL_CERT_(FILE|DIR))$/;
async function upload(a, spool, env) {
  const end2 = Date.now() + maxMilliseconds;
  if (!(0, import_node_path2.isAbsolute)(spool)) {
    throw new Error("the agent does not say where its spool is");
  }
  const files = await list(a.sudo, spool, a.since ?? 0);
  if (files.length === 0) {
    return void 0;
  }
  const fitting = fit(files, maxBytes);
  const folder = await (0, import_promises4.mkdtemp)((0, import_node_path2.join)(env["RUNNER_TEMP"] || (0, import_node_os.tmpdir)(), "sallyport-events-"));
  try {
    const problem = await pipe(
      [...a.sudo, "tar", "-C", spool, "-cf", "-", "--no-recursion", "-T", "-"],
      ["tar", "-C", folder, "-xf", "-", "--no-same-owner", "--no-same-permissions"],
      Math.max(1, end2 - Date.now()),
      fitting.map((f) => f.name + "\n").join("")
    );
    if (problem !== void 0) {
      throw new Error(`read the spool: ${reason(problem)}`);
    }
    const name = artifactName(env);
    const what = { name, folder, files: fitting.map((f) => (0, import_node_path2.join)(folder, f.name)), days: keptDays };
    const some = Object.fromEntries(Object.entries(env).filter((e) => forUpload.test(e[0]) && e[1] !== void 0));
    const done = await run([process.execPath, (0, import_node_path2.join)(__dirname, "upload.js")], Math.max(1, end2 - Date.now()), JSON.stringify(what), some);
    const said = parse2(done.out);
    if (said === void 0) {
      throw new Error(done.code === null ? `the upload did not end within ${maxMilliseconds / 1e3} s` : `the upload ended with ${done.code}: ${reason(done.err)}`);
    }
    if (said.problem !== void 0) {
      throw new Error(`the upload failed: ${said.problem}`);
    }
    return { artifact: name, batches: fitting.length, bytes: sum(fitting), leftOut: files.length - fitting.length };
  } finally {
    await (0, import_promises4.rm)(folder, { recursive: true, force: true });
  }
}
function parse2(text) {
  try {
    return JSON.parse(text.trim().split("\n").pop() ?? "");
  } catch {
    return void 0;
  }
}
async function list(sudo, spool, since) {
  const done = await run([...sudo, "find", spool, "-maxdepth", "1", "-type", "f", "-name", "*.batch", "-printf", "%f %s\\n"], 5e3);
  if (done.code !== 0) {
    throw new Error(`read the spool: ${reason(done.err)}`);
  }
  return select(done.out, since);
}
function select(lines, since) {
  const files = [];
  for (const line of lines.split("\n")) {
    const m = /^((\d{20})-\d{20}-\d{1,9}\.batch) (\d{1,12})$/.exec(line);
    if (m?.[1] !== void 0 && BigInt(m[2] ?? 0) / 1000000n >= BigInt(Math.trunc(since)) - 1000n) {
      files.push({ name: m[1], bytes: Number(m[3]) });
    }
  }
  return files.sort((a, b) => a.name < b.name ? -1 : 1);
}
function fit(files, most) {
  let bytes = 0;
  const end2 = files.findIndex((f) => (bytes += f.bytes) > most);
  return end2 < 0 ? files : files.slice(0, end2);
}
function sum(files) {
  return files.reduce((n, f) => n + f.bytes, 0);
}
function artifactName(env) {
  const job = (env["GITHUB_JOB"] ?? "").replace(/[^A-Za-z0-9_-]+/g, "-").slice(0, 60) || "job";
  const attempt = /^\d{1,9}$/.test(env["GITHUB_RUN_ATTEMPT"] ?? "") ? env["GITHUB_RUN_ATTEMPT"] : "1";
  return `sallyport-events-${job}-${attempt}-${(0, import_node_crypto3.randomBytes)(5).toString("hex")}`;
}

// src/download.ts
var import_node_crypto4 = require("node:crypto");
var import_node_fs2 = require("node:fs");
var import_promises5 = require("node:fs/promises");
var http = __toESM(require("node:http"));
var https = __toESM(require("node:https"));
var import_node_os2 = require("node:os");
var import_node_path3 = require("node:path");
var import_node_stream = require("node:stream");
var import_promises6 = require("node:stream/promises");
var import_node_net3 = require("node:net");
var import_node_tls = require("node:tls");
var limits = { within: 3e4, bytes: 64 << 20 };
var pauses = [0, 500];
var maxRedirects = 5;
async function download(url, version, arch2, sha256, env = process.env, most = limits) {
  const file = (0, import_node_path3.join)(env["RUNNER_TOOL_CACHE"] || env["RUNNER_TEMP"] || (0, import_node_os2.tmpdir)(), "sallyport-agent", version, arch2, "sallyport-agent");
  if (await sha256Of(file).catch(() => "") === sha256) {
    return file;
  }
  const part = `${file}.${(0, import_node_crypto4.randomUUID)()}`;
  try {
    await (0, import_promises5.mkdir)((0, import_node_path3.dirname)(file), { recursive: true });
    await fetchTo(new URL(url), part, env, most);
    const got = await sha256Of(part);
    if (got !== sha256) {
      throw new Error(`it has the digest ${got}, not ${sha256}: it was not started`);
    }
    await (0, import_promises5.rename)(part, file);
    return file;
  } catch (e) {
    throw new Error(`download ${url}: ${e.message}`);
  } finally {
    await (0, import_promises5.rm)(part, { force: true });
  }
}
var Passing = class extends Error {
};
async function fetchTo(url, file, env, most) {
  const signal = AbortSignal.timeout(most.within);
  for (let i = 0; ; i++) {
    try {
      return await save(await follow(url, env, signal), file, most.bytes, signal);
    } catch (e) {
      if (signal.aborted) {
        throw new Error(`it did not come within ${most.within} ms`);
      }
      const pause = pauses[i];
      if (!(e instanceof Passing) || pause === void 0) {
        throw e;
      }
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}
async function follow(url, env, signal) {
  for (let i = 0; i <= maxRedirects; i++) {
    const answer = await get(url, env, signal);
    const code = answer.statusCode ?? 0;
    if (code === 200) {
      return answer;
    }
    answer.destroy();
    if (code >= 500 || code === 429 || code === 408) {
      throw new Passing(`${url.host} answers ${code}`);
    }
    const location = answer.headers.location;
    if (code < 300 || code >= 400 || location === void 0) {
      throw new Error(`${url.host} answers ${code}`);
    }
    url = new URL(location, url);
    if (!isWebAddress(url.href)) {
      throw new Error(`it was sent on to ${url.protocol}//${url.host}, which is not https`);
    }
  }
  throw new Error(`it was sent on more than ${maxRedirects} times`);
}
async function get(url, env, signal) {
  const options = { signal, headers: { "user-agent": "sallyport-action" } };
  const proxy = proxyFor(url, env);
  if (proxy !== void 0) {
    const socket = await tunnel(proxy, `${url.hostname}:${url.port || 443}`, signal);
    options.createConnection = () => (0, import_node_tls.connect)({ socket, ...(0, import_node_net3.isIP)(bare(url.hostname)) ? {} : { servername: url.hostname } });
  }
  return new Promise((resolve, reject) => {
    (url.protocol === "https:" ? https : http).get(url, options, resolve).on("error", (e) => reject(new Passing(e.message)));
  });
}
async function save(answer, file, most, signal) {
  let bytes = 0;
  const counted = new import_node_stream.Transform({
    transform(chunk, _, done) {
      bytes += chunk.length;
      bytes > most ? done(new Error(`it has more than ${most} bytes`)) : done(null, chunk);
    }
  });
  try {
    await (0, import_promises6.pipeline)(answer, counted, (0, import_node_fs2.createWriteStream)(file, { mode: 420 }), { signal });
  } catch (e) {
    const code = e.code;
    throw code === "ECONNRESET" || code === "ERR_STREAM_PREMATURE_CLOSE" ? new Passing(e.message) : e;
  }
}
function proxyFor(url, env) {
  const proxy = env["https_proxy"] || env["HTTPS_PROXY"] || "";
  if (url.protocol !== "https:" || proxy === "") {
    return void 0;
  }
  const port = url.port || "443";
  for (const word of (env["no_proxy"] || env["NO_PROXY"] || "").toLowerCase().split(/[\s,]+/)) {
    const [, name = "", only] = /^(.*?)(?::(\d+))?$/.exec(word) ?? [];
    const suffix = name.replace(/^\*?\./, "");
    if (suffix !== "" && (only === void 0 || only === port) && (name === "*" || url.hostname === suffix || url.hostname.endsWith(`.${suffix}`))) {
      return void 0;
    }
  }
  try {
    return new URL(proxy.includes("://") ? proxy : `http://${proxy}`);
  } catch {
    throw new Error("HTTPS_PROXY is not an address");
  }
}
function tunnel(proxy, to, signal) {
  const headers = { host: to };
  if (proxy.username !== "") {
    const word = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
    headers["proxy-authorization"] = `Basic ${Buffer.from(word).toString("base64")}`;
  }
  const secure = proxy.protocol === "https:";
  return new Promise((resolve, reject) => {
    (secure ? https : http).request({
      method: "CONNECT",
      host: bare(proxy.hostname),
      port: proxy.port || (secure ? 443 : 80),
      path: to,
      headers,
      agent: false,
      signal
    }).on("connect", (answer, socket) => {
      if (answer.statusCode === 200) {
        resolve(socket);
      } else {
        socket.destroy();
        reject(new Error(`the proxy answers ${answer.statusCode}`));
      }
    }).on("error", (e) => reject(new Passing(`the proxy: ${e.message}`))).end();
  });
}
function bare(host) {
  return host.replace(/^\[|\]$/g, "");
}

// src/platform.ts
var import_node_fs3 = require("node:fs");
var firstPIDNamespace = "pid:[4026531836]";
function platform2(env) {
  return {
    os: process.platform,
    arch: process.arch,
    contained: process.platform === "linux" && isContained(),
    root: process.getuid?.() === 0,
    selfHosted: env["RUNNER_ENVIRONMENT"] === "self-hosted"
  };
}
function isContained() {
  try {
    return (0, import_node_fs3.readlinkSync)("/proc/self/ns/pid") !== firstPIDNamespace;
  } catch {
    return true;
  }
}
function whyNot2(p, deployOnSelfHosted) {
  if (p.os !== "linux") {
    const name = p.os === "win32" ? "Windows" : p.os === "darwin" ? "macOS" : p.os;
    return `Sallyport does not observe jobs on ${name}: this job is not watched, and goes on`;
  }
  if (p.arch !== "x64" && p.arch !== "arm64") {
    return `Sallyport's agent is built for x64 and arm64, not for ${p.arch}: this job is not watched, and goes on`;
  }
  if (p.contained) {
    return `this job runs in a container, from where the agent cannot see the machine: this job is not watched, and goes on. On runners of your own install the agent on the machine or node; on GitHub's, run the job without "container:" (docs/action.md)`;
  }
  if (p.selfHosted && !deployOnSelfHosted) {
    return "no agent runs on this self-hosted runner, and deploy-on-self-hosted-vm is false: this job is not watched, and goes on";
  }
  return void 0;
}
function findSudo(root, places = ["/usr/bin/sudo", "/bin/sudo", "/usr/local/bin/sudo", "/run/wrappers/bin/sudo"]) {
  if (root) {
    return [];
  }
  const sudo = places.find((p) => (0, import_node_fs3.existsSync)(p));
  if (sudo === void 0) {
    throw new Error("the agent needs root, and this runner has no sudo");
  }
  return [sudo, "-n", "--"];
}

// src/verdict.ts
function judge(text, on) {
  let r;
  try {
    r = JSON.parse(text);
    if (typeof r !== "object" || r === null) {
      throw new Error();
    }
  } catch {
    return { fails: [], unknown: "the agent's report cannot be read" };
  }
  const fails = (r.gaps?.damage ?? []).map((d) => `the agent was tampered with: ${String(d)}`);
  for (const f of r.judgement?.findings ?? []) {
    if (on === "new" || f.policy?.class !== "POLICY_CLASS_NEW_BEHAVIOUR") {
      fails.push(`${f.policy?.title ?? "finding"}: ${f.message ?? ""}`);
    }
  }
  const more = r.judgement?.findings_left_out ?? 0;
  if (more > 0) {
    fails.push(`${more} more finding${more === 1 ? "" : "s"}`);
  }
  if (on === "new") {
    for (const d of (r.steps ?? []).flatMap((s) => s.destinations ?? [])) {
      if (d.mark === "DESTINATION_MARK_FIRST_SEEN") {
        fails.push(`new destination: ${d.domain || d.address || "unknown"}${d.port ? `:${d.port}` : ""}`);
      }
    }
  }
  if (r.judgement === void 0) {
    return { fails, unknown: r.unasked || "the server did not judge it" };
  }
  return { fails: [...new Set(fails)] };
}

// src/action.ts
async function run2(stage) {
  const inputs = readInputs(process.env);
  for (const s of [...inputs.secrets, process.env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] ?? ""]) {
    if (s !== "") {
      setSecret(s);
    }
  }
  try {
    switch (stage) {
      case "pre":
        await begin(inputs, true);
        return;
      case "main":
        return await show(inputs);
      case "post":
        return await end(inputs);
    }
  } catch (e) {
    complain(inputs, e.message);
  }
}
var stateName = "agent";
function left() {
  const text = getState(stateName);
  return text === "" ? void 0 : JSON.parse(text);
}
function leave(l) {
  saveState(stateName, JSON.stringify(l));
}
function complain(inputs, message) {
  const text = `Sallyport: ${message}`;
  inputs.requireAgent ? setFailed(text) : error(text);
}
async function begin(inputs, first) {
  for (const w of inputs.warnings) {
    warning(`Sallyport: ${w}`);
  }
  for (const e of inputs.errors) {
    complain(inputs, e);
  }
  for (const n of inputs.notes) {
    notice(`Sallyport: ${n}`);
  }
  let l;
  try {
    l = await watch(inputs, first);
  } catch (e) {
    l = { notWatched: e.message };
    complain(inputs, `this job is not watched: ${l.notWatched}`);
  }
  leave(l);
  return l;
}
async function watch(inputs, first) {
  const socket = setting("SALLYPORT_SOCKET", defaultSocket);
  const state = setting("SALLYPORT_STATE", defaultState);
  const here = platform2(process.env);
  const there = here.os === "linux" ? await status(socket) : void 0;
  const no = there === void 0 ? whyNot2(here, inputs.deployOnSelfHosted) : void 0;
  if (no !== void 0) {
    inputs.requireAgent ? setFailed(`Sallyport: ${no}`) : notice(`Sallyport: ${no}`);
    return { notWatched: no };
  }
  if (there !== void 0) {
    let program2 = inputs.agentPath === "" ? await onMachine() : "";
    if (program2 === "") {
      program2 = await programOf(inputs, here.arch, `${state}-bin`, here.root).catch((e) => {
        info(`There will be no summary: ${shown(e.message)}`);
        return "";
      });
    }
    return await join3(inputs, there, socket, program2, first) ?? watch(inputs, first);
  }
  const sudo = findSudo(here.root);
  const program = await programOf(inputs, here.arch, `${state}-bin`, here.root);
  const since = Date.now();
  const s = await start(program, sudo, socket, state, variables(inputs), first);
  if (!s.started) {
    return await join3(inputs, s, socket, program, first) ?? watch(inputs, first);
  }
  info(`The agent watches: version ${shown(s.version)}, process ${s.pid}.`);
  return { running: { socket, program, sudo, ours: true, pid: s.pid, since, first: s } };
}
async function join3(inputs, s, socket, program, first) {
  const own = ["GITHUB_REPOSITORY", "GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT"].map((n) => process.env[n] ?? "").join("/");
  if (s.run && s.run !== own) {
    throw new Error(`an agent runs on this machine already, which another job has started, and which speaks for the run ${shown(s.run)} alone; runners that share a machine need the agent on the machine (docs/self-hosted.md)`);
  }
  if (s.ends === true || s.users && !await use(socket, first)) {
    if (await ended(socket, s.pid)) {
      return void 0;
    }
    throw new Error(s.ends === true ? "the agent of another job on this machine is about to end, and takes too long to" : "an agent runs on this machine already, which another job has started, and which does not see this one");
  }
  info(`An agent runs on this machine already: version ${shown(s.version)}, process ${s.pid}.`);
  if (inputs.disableTelemetry) {
    warning("Sallyport: not enforced: disable-telemetry: the agent of this machine sends what it sees where it was told to when it was started");
  } else if (inputs.server !== "" || inputs.nats !== "") {
    info("It sends what it sees where it was told to when it was started, not to what this step names.");
  }
  return { running: { socket, program, sudo: [], ours: false, pid: s.pid } };
}
async function programOf(inputs, arch2, folder, root) {
  const w = wanted(inputs, arch2);
  let file;
  if ("path" in w) {
    file = w.path;
  } else {
    file = await download(w.url, w.version, arch2, w.sha256);
  }
  return install(file, w.sha256, folder, findSudo(root));
}
function setting(name, otherwise) {
  const value = process.env[name] ?? "";
  return (0, import_node_path4.isAbsolute)(value) ? value : otherwise;
}
var nowhere = "nats://sallyport.invalid:4222";
function variables(inputs) {
  const v = {};
  for (const [name, value] of Object.entries(process.env)) {
    if (/^SALLYPORT_[A-Z0-9_]+$/.test(name) && name !== "SALLYPORT_READY_FD" && value !== void 0) {
      v[name] = value;
    }
  }
  const drop = (pattern) => {
    for (const name of Object.keys(v)) if (pattern.test(name)) delete v[name];
  };
  if (inputs.disableTelemetry) {
    drop(/^SALLYPORT_(SERVER|NATS)/);
    v["SALLYPORT_NATS"] = nowhere;
    info("Nothing is sent to a server (disable-telemetry).");
    return v;
  }
  if (inputs.nats !== "") {
    drop(/^SALLYPORT_SERVER/);
    v["SALLYPORT_NATS"] = inputs.nats;
  }
  if (inputs.server !== "") {
    drop(/^SALLYPORT_NATS/);
    v["SALLYPORT_SERVER"] = inputs.server;
  }
  if (v["SALLYPORT_SERVER"]) {
    for (const name of ["ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "GITHUB_REPOSITORY", "GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT"]) {
      v[name] = process.env[name] ?? "";
    }
    if (v["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] === "" || v["ACTIONS_ID_TOKEN_REQUEST_URL"] === "") {
      warning('Sallyport: the job cannot prove to the server who it is: it needs "permissions: id-token: write"');
    }
  }
  if (!v["SALLYPORT_NATS"] && !v["SALLYPORT_SERVER"]) {
    v["SALLYPORT_NATS"] = nowhere;
    notice("Sallyport: neither server nor nats is given: what the job does is told in its summary alone");
  }
  return v;
}
async function show(inputs) {
  const socket = setting("SALLYPORT_SOCKET", defaultSocket);
  let l = left();
  if (l === void 0 && await status(socket) !== void 0) {
    l = { running: { socket, program: "", sudo: [], ours: false, pid: 0 } };
  }
  if (l === void 0) {
    notice("Sallyport: the agent starts with this step: what the job did before is not watched. Name the action by OWNER/REPO to have it start first");
    l = await begin(inputs, false);
  }
  if ("notWatched" in l) {
    info(`This job is not watched: ${shown(l.notWatched)}`);
    return;
  }
  const s = await status(l.running.socket);
  if (s === void 0) {
    complain(inputs, "the agent has gone since the job began");
    return;
  }
  info(`Sallyport watches this job: processes, connections, look-ups, files that matter, privileges.`);
  info(`agent ${shown(s.agent_id)}, version ${shown(s.version)}, process ${s.pid}`);
  info(s.connected ? "server: connected" : `server: ${shown(s.not_connected ?? "not connected")}; what is seen is kept until it can be reached`);
  info(`fail-on: ${inputs.failOn}`);
}
async function end(inputs) {
  let l = left();
  if (l === void 0 && await status(setting("SALLYPORT_SOCKET", defaultSocket)) !== void 0) {
    l = await watch(inputs, false);
  }
  if (l === void 0 || "notWatched" in l) {
    const why = l?.notWatched ?? "the agent was never started";
    info(`This job was not watched: ${shown(why)}`);
    await write(inputs, `### Sallyport

❔ This job was not watched: ${escaped(why)}
`);
    return;
  }
  const a = l.running;
  const before = await status(a.socket);
  const gone = before === void 0 || a.ours && before.pid !== a.pid;
  if (gone) {
    const what = before === void 0 ? "the agent did not run any more when the job ended" : "another agent took the place of the one that was started";
    const kept2 = before === void 0 && a.first !== void 0 ? await keep(inputs, a, a.first.spool, process.env) : void 0;
    const where = kept2 !== void 0 && "artifact" in kept2 ? whereKept(kept2) : void 0;
    await write(inputs, `### Sallyport

❗ Not complete: ${what}. What the job did after that was not seen
` + (where === void 0 ? "" : `
⏳ ${escaped(`What it had not sent by then: ${where}`)}${howToSend(kept2, a.first)}
`));
    if (where !== void 0) {
      warning(`Sallyport: what the agent had not sent: ${where}`);
    }
    inputs.failOn === "never" ? error(`Sallyport: ${what}`) : setFailed(`Sallyport: ${what}`);
    return;
  }
  const completed = a.ours ? complete(a, before.connected) : void 0;
  const none = { problem: "there is no program of the agent to ask it with" };
  const [markdown, json] = await Promise.all([
    a.program === "" ? none : inputs.summary ? report(a, "--markdown") : void 0,
    a.program === "" ? none : inputs.failOn !== "never" ? report(a, "--json") : void 0
  ]);
  await completed;
  const stopped = a.ours ? await stop(a).catch((e) => ({ problem: e.message })) : before;
  const disorder = "problem" in stopped ? stopped.problem : void 0;
  const last = "problem" in stopped ? before : stopped;
  const ended2 = a.ours && disorder === void 0 && last.goes_on !== true;
  if (a.ours && last.goes_on === true) {
    info("Another job on this machine counts on the agent: it goes on, and ends with that.");
  }
  const kept = ended2 && last.batches_waiting > 0 ? await keep(inputs, a, last.spool, process.env) : void 0;
  await write(inputs, (markdown === void 0 ? "" : "text" in markdown ? markdown.text : `### Sallyport

❔ No report: ${escaped(markdown.problem)}
`) + (disorder === void 0 ? account(last, ended2, kept) : `
❗ Not complete: the agent did not end in order: ${escaped(disorder)}
`));
  info(`The agent saw ${last.events_seen} records${ended2 ? " and has ended" : ""}.`);
  if (disorder !== void 0) {
    const what = `Sallyport: the agent did not end in order: ${disorder}`;
    inputs.failOn === "never" && !inputs.requireAgent ? error(what) : setFailed(what);
  } else if (last.batches_waiting > 0) {
    warning(`Sallyport: ${unsent(last, ended2, kept)}`);
  }
  if (json !== void 0) {
    const verdict = "text" in json ? judge(json.text, inputs.failOn) : { fails: [], unknown: json.problem };
    if (verdict.unknown !== void 0) {
      warning(`Sallyport: whether the job is to fail (fail-on: ${inputs.failOn}) could not be told: ${verdict.unknown}`);
    }
    for (const f of verdict.fails.slice(0, 10)) {
      error(`Sallyport: ${f}`);
    }
    if (verdict.fails.length > 0) {
      setFailed(`Sallyport: ${verdict.fails.length} reason${verdict.fails.length === 1 ? "" : "s"} to fail this job (fail-on: ${inputs.failOn})`);
    }
  }
}
function account(s, ended2, kept) {
  const lines = [];
  const lost = Object.entries(s.events_lost ?? {});
  if (lost.length > 0) {
    lines.push(`❗ Events lost on this machine: ${lost.map(([kind, n]) => `${escaped(kind)} ${Number(n)}`).join(", ")}`);
  }
  if (s.batches_waiting > 0) {
    lines.push(`⏳ ${escaped(unsent(s, ended2, kept))}${howToSend(kept, s)}`);
  }
  return lines.length === 0 ? "" : `
${lines.join("\n\n")}
`;
}
function unsent(s, ended2, kept) {
  const why = s.connected ? "there was no time" : s.not_connected ?? "not connected";
  const what = `${s.batches_waiting} batches of events did not reach the server (${shown(why)}); `;
  if (!ended2) {
    return `${what}the agent goes on sending them`;
  }
  if (kept !== void 0 && "artifact" in kept) {
    return what + whereKept(kept);
  }
  const not = kept === void 0 ? "" : ` (not uploaded: ${shown(kept.notUploaded)})`;
  return `${what}they are in ${shown(s.spool)} on this machine: ${s.run ? "another agent of this run" : "the next agent there"} sends them, and where the machine goes with the job they are lost${not}`;
}
function whereKept(k) {
  const left2 = k.leftOut > 0 ? `; ${k.leftOut} more had no room there, and are lost where the machine goes with the job` : "";
  return `${k.batches} of them (${k.bytes} bytes) are in the artifact ${k.artifact} of this run for ${keptDays} days, from where "sallyport spool send" brings them to the server${left2}`;
}
function howToSend(kept, s) {
  const [repository = "", run3 = ""] = ["GITHUB_REPOSITORY", "GITHUB_RUN_ID"].map((n) => process.env[n] ?? "");
  if (kept === void 0 || !("artifact" in kept) || !/^[\w.-]+\/[\w.-]+$/.test(repository) || !/^\d+$/.test(run3)) {
    return "";
  }
  const agent = s !== void 0 && /^[\w-]+$/.test(s.agent_id) && !s.run ? ` --agent ${s.agent_id}` : "";
  return `

\`\`\`
gh run download ${run3} --repo ${repository} --name ${kept.artifact} --dir ${kept.artifact}
sallyport spool send --repo ${repository} --run ${run3}${agent} ${kept.artifact}
\`\`\``;
}
async function write(inputs, text) {
  const path = process.env["GITHUB_STEP_SUMMARY"] ?? "";
  if (!inputs.summary || text === "" || path === "") {
    return;
  }
  try {
    if (!(await (0, import_promises7.stat)(path)).isFile()) {
      throw new Error("its file is none");
    }
    await summary.addRaw(text).write();
  } catch (e) {
    warning(`Sallyport: the summary cannot be written: ${e.message}`);
  }
}
function shown(text) {
  return text.replace(/[\u0000-\u001f\u007f]+/g, " ").replace(/##\[/g, "## [").replace(/^\s*::/, ": :").slice(0, 1e3);
}
function escaped(text) {
  return shown(text).replace(/[!-/:-@[-`{-~]/g, "\\$&").replace(/@/g, "@​");
}
// Annotate the CommonJS export names for ESM import in node:
0 && (module.exports = {
  escaped,
  run,
  shown
});
