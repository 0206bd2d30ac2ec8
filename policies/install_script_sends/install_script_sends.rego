# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Install script sends to a free host
# description: >-
#   Code of a package, run while the package is installed, sends to a place where
#   anybody may run a program without being known (list free_hosting). ctx sent all
#   environment variables of a machine this way, in the path of one request.
# custom:
#   class: threat
#   kinds: [egress]
#   severity: high
#   technique: T1195.002
#   also: [T1041]
#   remediation: >-
#     Treat every secret of the job as known to others and rotate them now. Install
#     without scripts (npm ci --ignore-scripts, pip install --only-binary) and
#     remove the package that the ancestry names.
package sallyport.policies.install_script_sends

import data.sallyport.hosts
import data.sallyport.lineage

violation contains message if {
	input.behaviour.kind == "egress"
	not input.baseline.known
	some name in hosts.names
	hosts.entry(name, data.sallyport.lists.free_hosting.domains)
	installer := lineage.installer
	message := sprintf("%s, started by %s, sent to %s, where anybody may run a program", [input.behaviour.program, installer, name])
}
