/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the programs hand to user space: one ring buffer, the layout of its
 * records (decoded by decode.go, keep both the same), and an account of the
 * records that did not fit.
 */
#ifndef SALLYPORT_RECORD_H
#define SALLYPORT_RECORD_H

#include "kernel.h"

enum kind {
	KIND_FORK = 1,
	KIND_EXEC = 2,
	KIND_ENVIRONMENT = 3,
	KIND_EXIT = 4,
	KIND_FLOW = 5,
	KIND_DNS = 6,
	KIND_ACCESS = 7,
	KIND_FILE = 8,
	KIND_PAYLOAD = 9,
	KIND_PRIVILEGE = 10,
	KIND_CGROUP = 11,
	KIND_PLAINTEXT = 12,
	KIND_COUNT = 13,
};

#define MAX_PATH 1024
#define MAX_ARGUMENTS 8192
#define MAX_ENVIRONMENT (256 << 10)
#define ENVIRONMENT_PIECE (16 << 10)
#define MAX_DNS 1500

struct header {
	u32 kind;
	u32 reserved;
	u64 time;
	u64 process;
	u32 pid;
	u32 uid;
};

struct fork_record {
	struct header header;
	u64 parent;
	u32 parent_pid;
	u32 reserved;
	char comm[16];
};

struct descriptor {
	u64 inode;
	u32 mode;
	u32 reserved;
};

enum exec_flags {
	EXEC_WORKER = 1,
	EXEC_STEP = 2,
	EXEC_DELETED = 4,	/* no folder has the program's file */
	EXEC_IN_MEMORY = 8,	/* nor has any disk: memfd_create and the like */
	EXEC_SCRIPT = 16,	/* the file asked for names the program in its first line */
	EXEC_CONTAINER = 32,	/* its process entered its control group from outside: its environment came */
};

/* data: file name, executable, working directory, arguments, without gaps. */
struct exec_record {
	struct header header;
	u64 previous;
	u64 parent;
	u64 started;
	u32 parent_pid;
	u32 gid;
	u32 flags;
	u32 arguments_size;
	u16 filename_length;
	u16 executable_length;
	u16 directory_length;
	u16 arguments_length;
	struct descriptor standard_input;
	struct descriptor standard_output;
	struct descriptor argument_pipe;
	u64 inode;	/* of the program's file */
	u64 changed;	/* its time of change, in ns */
	u32 device;	/* as in s_dev: major << 20 | minor */
	u32 euid;
	u64 capabilities;
	u64 cgroup;
	char comm[16];
	char data[3 * MAX_PATH + MAX_ARGUMENTS];
};

struct environment_record {
	struct header header;
	u32 offset;
	u32 size;
	char data[ENVIRONMENT_PIECE];
};

enum exit_flags {
	EXIT_WORKER = 1,
};

struct exit_record {
	struct header header;
	u8 code;
	u8 signal;
	u8 flags;
	u8 reserved[5];
};

struct access_record {
	struct header header;
	u64 target;
	u32 target_pid;
	u8 access;
	u8 target_worker;
	u8 reserved[2];
};

enum privilege {
	PRIVILEGE_GAINED = 1,		/* capabilities, or another effective user */
	PRIVILEGE_NAMESPACES = 2,	/* it is in others than its parent */
	PRIVILEGE_MODULE = 3,		/* a kernel module was loaded */
	PRIVILEGE_BPF = 4,		/* an eBPF program was: seen by perf.go */
	PRIVILEGE_SIGNAL = 5,		/* sent to whoever loaded these programs */
	PRIVILEGE_PACKETS = 6,		/* sent by a packet or XDP socket */
};

enum namespaces {
	NAMESPACE_UTS = 1,
	NAMESPACE_IPC = 2,
	NAMESPACE_MOUNT = 4,
	NAMESPACE_PID = 8,
	NAMESPACE_NET = 16,
	NAMESPACE_TIME = 32,
	NAMESPACE_CGROUP = 64,
	NAMESPACE_USER = 128,
};

struct privilege_record {
	struct header header;
	u64 gained;	/* capabilities */
	u32 euid_before;
	u32 euid;
	u32 number;	/* namespaces, the signal, or the family of the socket */
	u8 privilege;
	u8 reserved[3];
	char name[56];	/* of the module */
};

/* A new group, or one that goes: path from the root of the hierarchy, not ended by a zero byte. */
struct cgroup_record {
	struct header header;
	u64 cgroup;
	u32 length;
	u32 removed;
	char path[MAX_PATH];
};

/* What a payload is handed over for. */
enum payload_use {
	PAYLOAD_TLS = 1,	/* the first bytes of a TLS client */
	PAYLOAD_QUIC = 2,	/* a QUIC Initial packet */
	PAYLOAD_DNS = 3,	/* DNS over TCP */
};

#define PAYLOAD_PIECE 1536

struct payload_record {
	struct header header;
	u64 flow;
	u32 sequence;	/* of TCP */
	u16 length;
	u8 use;
	u8 received;
	u8 data[PAYLOAD_PIECE];
};

/* The beginning of what a process had encrypted at once: size is that of the whole. */
#define MAX_PLAINTEXT 2048

struct plaintext_record {
	struct header header;
	u64 connection;	/* by its address in the process */
	u64 library;	/* as it was attached with */
	u64 size;
	u32 length;
	u32 begins;	/* as a connection, or a request, does */
	u8 data[MAX_PLAINTEXT];
};

enum file_access {
	FILE_READ = 1,
	FILE_WRITE = 2,
};

/* path: from the root of its file system, not ended by a zero byte. */
struct file_record {
	struct header header;
	u64 inode;
	u32 device;
	u32 watched;
	u16 path_length;
	u8 access;
	u8 reserved[5];
	char path[MAX_PATH];
};

enum flow_state {
	FLOW_STARTED = 1,
	FLOW_ACTIVE = 2,
	FLOW_ENDED = 3,
	FLOW_FOUND = 5,	/* open before the sensor */
	FLOW_USED = 4,	/* by another process than began it: the record's */
};

enum flow_direction {
	FLOW_OUTBOUND = 1,
	FLOW_INBOUND = 2,
	FLOW_LISTENING = 3,
};

/* IPv4 addresses are written as IPv6-mapped ones; ports are in host order. */
struct address {
	u8 bytes[16];
};

struct flow_record {
	struct header header;
	u64 id;
	u64 started;
	u64 sent;
	u64 received;
	struct address source;
	struct address destination;
	u16 source_port;
	u16 destination_port;
	u16 error;
	u8 state;
	u8 protocol;
	u8 established;
	u8 direction;
	u8 reserved[6];
};

struct dns_record {
	struct header header;
	struct address server;
	u16 server_port;
	u16 port;
	u32 size;
	u16 length;
	u8 response;
	u8 reserved[5];
};

/* Most messages are short: two sizes, since a reservation has a constant one. */
#define SHORT_DNS 512

struct short_dns_record {
	struct dns_record dns;
	u8 payload[SHORT_DNS];
};

struct long_dns_record {
	struct dns_record dns;
	u8 payload[MAX_DNS + 4];
};

/* The sizes that decode_test.go expects, without variable data. */
_Static_assert(sizeof(struct header) == 32, "header");
_Static_assert(sizeof(struct fork_record) == 64, "fork");
_Static_assert(__builtin_offsetof(struct exec_record, data) == 184, "exec");
_Static_assert(__builtin_offsetof(struct environment_record, data) == 40, "environment");
_Static_assert(sizeof(struct exit_record) == 40, "exit");
_Static_assert(sizeof(struct flow_record) == 112, "flow");
_Static_assert(sizeof(struct dns_record) == 64, "dns");
_Static_assert(sizeof(struct access_record) == 48, "access");
_Static_assert(sizeof(struct privilege_record) == 112, "privilege");
_Static_assert(__builtin_offsetof(struct plaintext_record, data) == 64, "plaintext");
_Static_assert(__builtin_offsetof(struct cgroup_record, path) == 48, "cgroup");
_Static_assert(__builtin_offsetof(struct file_record, path) == 56, "file");
_Static_assert(__builtin_offsetof(struct payload_record, data) == 48, "payload");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20); /* set by the loader */
} records SEC(".maps");

/* Records that did not fit, by kind. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, u32);
	__type(value, u64);
	__uint(max_entries, KIND_COUNT);
} lost SEC(".maps");

/* Bytes that wait in the ring before the reader is woken; set by the loader. */
const volatile u32 wake_bytes = 256 << 10;

static __always_inline void count_lost(u32 kind)
{
	u64 *n = bpf_map_lookup_elem(&lost, &kind);

	if (n)
		__sync_fetch_and_add(n, 1);
}

/*
 * Waking the reader costs more than all else that a program does, so it is left
 * to the reader's own deadline until much is waiting.
 */
static __always_inline u64 wake(void)
{
	return bpf_ringbuf_query(&records, BPF_RB_AVAIL_DATA) >= wake_bytes ?
		       BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

/* A record of a fixed size, or NULL (counted) if the ring is full. */
#define reserve(kind_, type) ({						\
	type *r_ = bpf_ringbuf_reserve(&records, sizeof(type), 0);	\
	if (!r_)							\
		count_lost(kind_);					\
	r_;								\
})

static __always_inline void submit(void *record)
{
	bpf_ringbuf_submit(record, wake());
}

/* For what is rare and may be an attack: the reader is to see it now. */
static __always_inline void submit_urgent(void *record)
{
	bpf_ringbuf_submit(record, BPF_RB_FORCE_WAKEUP);
}

static __always_inline void fill(struct header *h, u32 kind, u64 time, u64 process,
				 u32 pid, u32 uid)
{
	h->kind = kind;
	h->reserved = 0;
	h->time = time;
	h->process = process;
	h->pid = pid;
	h->uid = uid;
}

#endif
