# Runs systemd as the first process of a machine made of namespaces: unshare has made those
# of mounts, processes, IPC and host name. Its units are only those written here and those
# that the test installs; nothing of the real machine's /tmp, /var, /run, /home, /etc or
# /usr/local is changed, or seen where it is not /etc or /usr/local.
# Usage: machine.sh FOLDER-TO-SHARE CGROUP
set -euo pipefail
[ $$ = 1 ] || { echo "machine.sh: only as the first process of a namespace" >&2; exit 1; }
mount --make-rprivate /
mount -t tmpfs shared /mnt
mkdir /mnt/shared
mount --bind "$1" /mnt/shared
mkdir /mnt/etc /mnt/etc.work /mnt/local /mnt/local.work
mount -t overlay etc -o lowerdir=/etc,upperdir=/mnt/etc,workdir=/mnt/etc.work,index=on,nfs_export=on /etc
mount -t overlay local -o lowerdir=/usr/local,upperdir=/mnt/local,workdir=/mnt/local.work,index=on,nfs_export=on /usr/local
for folder in /tmp /var /run /home /usr/lib/systemd/system /usr/lib/systemd/system-generators /etc/systemd /etc/init.d; do mount -t tmpfs -o mode=755 machine $folder; done
chmod 1777 /tmp
mkdir -p /run/lock /etc/systemd/system /var/lib /var/log
# The first process must be in a control group of its own; the namespace is the machine's,
# as the agent needs it.
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$2"
echo $$ >"/sys/fs/cgroup/$2/cgroup.procs"
unit() { printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' "$1" >"/usr/lib/systemd/system/$1"; }
for name in sysinit basic network-online shutdown umount final multi-user; do unit $name.target; done
printf 'Requires=basic.target\nAfter=basic.target\n' >>/usr/lib/systemd/system/multi-user.target
export container=sallyport-test
exec /lib/systemd/systemd --unit=multi-user.target --show-status=0 --log-target=console
