# A program that is started by calling the loader: it is never run itself, and needs no
# permission to be.
cp /usr/bin/true "$DIR/not-executable"
chmod 644 "$DIR/not-executable"
echo acted $$
exec $(ls /lib64/ld-linux-*.so.* /lib/ld-linux-*.so.* 2>/dev/null | head -n 1) "$DIR/not-executable" --harmless
