package evasion

var fileTricks = []trick{
	{name: "credential mapped", run: []string{"read_mmap.c"}, want: []string{"read_mmap read DIR/home/.aws/credentials aws_credentials"}},
	{
		name: "GITHUB_ENV through a shared mapping", run: []string{"write_mmap.c"}, wait: []string{"commands/env"},
		want: []string{"write_mmap written DIR/commands/env step_environment"},
	},
}
