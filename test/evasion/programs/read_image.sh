# Not the file is read but the disk that it lies on, here an image that is mounted from a
# file: the file system that knows the file's name is not asked.
truncate -s 8M "$DIR/image"
mkfs.ext4 -q "$DIR/image"
unshare -m sh -e -c '
	mount -o loop "$DIR/image" "$HOME/.aws"
	echo "aws_secret_access_key=on a disk" >"$HOME/.aws/credentials"
	sync -f "$HOME/.aws/credentials"
	umount "$HOME/.aws"
	echo acted $$
	exec grep -a -o "aws_secret_access_key=on a disk" "$DIR/image"
'
