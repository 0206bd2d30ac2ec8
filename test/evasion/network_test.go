package evasion

var networkTricks = []trick{
	{name: "TCP over IPv4", run: []string{"tcp4.c"}, want: []string{"tcp4 sent tcp ADDRESS:PORT"}},
	{name: "UDP by sendmmsg", run: []string{"udp_sendmmsg.c"}, want: []string{"udp_sendmmsg sent udp ADDRESS:PORT"}},
}
