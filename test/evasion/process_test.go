package evasion

var processTricks = []trick{
	{name: "program in memory", run: []string{"memfd.c"}, want: []string{"memfd:ghost (deleted) ran innocent again"}},
}
