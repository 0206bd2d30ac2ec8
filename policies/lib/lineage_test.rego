package sallyport.lineage_test

import data.sallyport.lineage

process(arguments) := {"executable": sprintf("/usr/bin/%s", [lineage.base(arguments[0])]), "script": "", "arguments": arguments}

test_package_managers_that_install if {
	every arguments in [
		["npm", "ci"], ["node", "/usr/bin/npm", "install", "left"], ["node", "/home/runner/.yarn/releases/yarn-4.5.0.cjs"], ["yarn"],
		["yarn", "--immutable"], ["pnpm", "i"], ["python3", "-m", "pip", "install", "."], ["pip3", "install", "x"], ["uv", "sync"], ["bundle", "install"],
	] {
		lineage.installs(process(arguments))
	}
}

test_other_commands_do_not_install if {
	every arguments in [
		["npm", "test"], ["npm", "run", "build"], ["yarn", "build"], ["node", "server.js"], ["pip", "list"],
		["bash", "-c", "npm ci"], ["make", "install"], ["go", "install", "./..."], ["apt-get", "install", "jq"],
	] {
		not lineage.installs(process(arguments))
	}
}

test_installer_is_an_ancestor if {
	lineage.installer == "npm ci" with input as {"ancestry": [process(["sh", "-c", "node x.js"]), process(["npm", "ci"])]}
	not lineage.below_installer with input as {"ancestry": [process(["bash", "-e", "x.sh"])]}
}

test_programs_are_what_runs if {
	lineage.programs(process(["node", "/opt/x/claude.js", "-p"])) == {"node", "claude"}
	lineage.programs(process(["/tmp/xmrig", "-o"])) == {"xmrig"}
	lineage.programs(process(["cp", "/opt/runner/bin/Runner.Worker", "x"])) == {"cp"}
	lineage.programs(process(["python3", "-c", "xmrig"])) == {"python3"}
}
