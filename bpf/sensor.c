//go:build ignore

// SPDX-License-Identifier: GPL-2.0
/* All programs, in one object. */
#include "kernel.h"
#include "record.h"
#include "lineage.h"
#include "process.h"
#include "socket.h"
#include "tcp.h"
#include "opened.h"
#include "udp.h"
#include "packet.h"
#include "use.h"
#include "access.h"
#include "reach.h"
#include "file.h"
#include "plaintext.h"

char LICENSE[] SEC("license") = "GPL";
