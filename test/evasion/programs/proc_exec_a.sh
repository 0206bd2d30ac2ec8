# Run under another name (exec -a): the arguments say git, the program is another.
echo acted $$
exec bash -c 'exec -a "git status" "$BIN/udp_sendto"'
