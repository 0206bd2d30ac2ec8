#!/bin/sh
# Puts sallyport-agent into the image of a runner machine: run as root by Packer
# (agent.pkr.hcl), by cloud-init (user-data.yaml), or by hand. The program lies at
# SALLYPORT_AGENT (default /tmp/sallyport-agent), and has the digest SALLYPORT_SHA256.
#
# No secret goes into the image: what is needed to send comes with the machine
# (docs/self-hosted.md). The agent starts when /etc/sallyport/agent.env has it.
set -eu
program=${SALLYPORT_AGENT:-/tmp/sallyport-agent}
: "${SALLYPORT_SHA256:?the SHA-256 of the program, in hexadecimal digits}"
echo "$SALLYPORT_SHA256  $program" | sha256sum -c - >/dev/null || {
  echo "install.sh: $program is not the program that was meant" >&2
  exit 1
}
chmod 755 "$program"
"$program" --check
# Runners of this image that are not configured yet have hooks, too: of all runners, by
# the environment that they are started with.
"$program" install --no-start
if ! grep -q '^ACTIONS_RUNNER_HOOK_JOB_STARTED=' /etc/environment 2>/dev/null; then
  cat >>/etc/environment <<'END'
ACTIONS_RUNNER_HOOK_JOB_STARTED=/usr/local/lib/sallyport/hooks/job-started.sh
ACTIONS_RUNNER_HOOK_JOB_COMPLETED=/usr/local/lib/sallyport/hooks/job-completed.sh
END
fi
rm -f "$program"
