# METADATA
# scope: package
# schemas:
#   - input: schema.policy_input
# title: Install script hunts for secrets
# description: >-
#   Code of a package, run while the package is installed, starts a scanner that
#   finds secrets, or an AI tool of the command line that can be told to. Shai-Hulud
#   brought a scanner; the Nx attack asked whatever AI tool the machine had.
# custom:
#   class: threat
#   kinds: [exec]
#   severity: critical
#   technique: T1552.001
#   also: [T1083, T1195.002]
#   remediation: >-
#     Treat every secret of the job as known to others and rotate them now. Remove
#     the package that the ancestry names, and look for new repositories and
#     workflows under the accounts whose tokens were there.
package sallyport.policies.install_script_hunts_secrets

import data.sallyport.lineage

violation contains message if {
	some name in lineage.running
	name in data.sallyport.lists.secret_tools.scanners
	installer := lineage.installer
	message := sprintf("an install script of %s started %s, which finds secrets", [installer, name])
}

violation contains message if {
	some name in lineage.running
	name in data.sallyport.lists.secret_tools.ai
	count(input.process.arguments) > 1
	not only_asks_for_itself
	installer := lineage.installer
	message := sprintf("an install script of %s told %s, an AI tool, to do something", [installer, name])
}

only_asks_for_itself if {
	every argument in array.slice(input.process.arguments, 1, count(input.process.arguments)) {
		argument in {"--version", "-v", "-V", "--help", "install", "completion"}
	}
}
