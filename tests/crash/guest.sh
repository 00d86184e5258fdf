#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The first process of the machine that is cut off. Its root is the host's, read-only; its disk is mounted on
# /tmp/data. The kernel's command line has what guest.py is to be told: HF_GUEST='program policy ...'.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t tmpfs tmpfs /tmp
mkdir /tmp/data
mknod /tmp/disk b 98 0
stty -F /dev/ttyS0 raw -echo
if ! mount -t ext4 -o nodiscard /tmp/disk /tmp/data; then
    echo "failed mount: $(dmesg | tail -n 8 | tr '\n' ' ')" >/dev/ttyS0
    sleep 1000
fi
export PYTHONDONTWRITEBYTECODE=1
/usr/bin/python3 "$HF_CODE/guest.py" $(echo "$HF_GUEST" | tr , ' ')
sleep 1000
