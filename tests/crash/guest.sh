#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The first process of the machine that is cut off. Its root is the host's, read-only; its disk is mounted on
# /mnt/data, as the sources may be below /tmp. The kernel's command line has what guest.py is to be told:
# HF_GUEST='program policy ...'.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t tmpfs tmpfs /mnt
mkdir /mnt/data
mknod /mnt/disk b 98 0
stty -F /dev/ttyS0 raw -echo
if ! mount -t ext4 -o nodiscard /mnt/disk /mnt/data; then
    echo "failed mount: $(dmesg | tail -n 8 | tr '\n' ' ')" >/dev/ttyS0
    sleep 1000
fi
export PYTHONDONTWRITEBYTECODE=1 TMPDIR=/mnt
/usr/bin/python3 "$HF_CODE/guest.py" $(echo "$HF_GUEST" | tr , ' ')
sleep 1000
