/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What processes of steps hand to their TLS library, as far as it begins like HTTP:
 * uprobes at the functions that encrypt (plaintext.go attaches them). Whoever writes
 * anything else leaves after a look at its first bytes.
 */
#ifndef SALLYPORT_PLAINTEXT_H
#define SALLYPORT_PLAINTEXT_H

#include "access.h"

struct encrypted {
	u64 process;
	u64 connection;
};

enum encrypted_state {
	ENCRYPTED_WANTED = 1,	/* it began like HTTP */
	ENCRYPTED_IGNORED = 2,	/* user space has seen enough */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct encrypted);
	__type(value, u32);
	__uint(max_entries, 4096);
} encrypted_connections SEC(".maps");

#define FOUR(a, b, c, d) ((u32)(a) | (u32)(b) << 8 | (u32)(c) << 16 | (u32)(d) << 24)

/* The beginning of a request of HTTP/1, or of a connection of HTTP/2. */
static __always_inline bool begins_http(u32 first)
{
	switch (first) {
	case FOUR('G', 'E', 'T', ' '):
	case FOUR('P', 'O', 'S', 'T'):
	case FOUR('P', 'U', 'T', ' '):
	case FOUR('P', 'A', 'T', 'C'):
	case FOUR('D', 'E', 'L', 'E'):
	case FOUR('H', 'E', 'A', 'D'):
	case FOUR('O', 'P', 'T', 'I'):
	case FOUR('P', 'R', 'I', ' '):
		return true;
	}
	return false;
}

static __always_inline int report_plaintext(u64 connection, const void *data, u64 size, u64 library)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32, first = 0, wanted = ENCRYPTED_WANTED, *state;
	struct process *p = lookup_process(tgid);
	struct encrypted key = { .connection = connection };
	struct plaintext_record *r;
	bool begins;
	u32 length;

	if (!p || !(p->flags & PROCESS_STEP) || size < 4 || (s64)size < 0)
		return 0;
	if (bpf_probe_read_user(&first, sizeof(first), data))
		return 0;
	begins = begins_http(first);
	key.process = p->id;
	state = bpf_map_lookup_elem(&encrypted_connections, &key);
	if (!begins && (!state || *state != ENCRYPTED_WANTED))
		return 0;
	if (begins && (!state || *state != ENCRYPTED_WANTED))
		bpf_map_update_elem(&encrypted_connections, &key, &wanted, BPF_ANY);
	r = reserve(KIND_PLAINTEXT, struct plaintext_record);
	if (!r)
		return 0;
	fill(&r->header, KIND_PLAINTEXT, bpf_ktime_get_boot_ns(), p->id, tgid,
	     bpf_get_current_uid_gid());
	r->connection = connection;
	r->library = library;
	r->size = size;
	r->begins = begins;
	length = size < MAX_PLAINTEXT ? size : MAX_PLAINTEXT;
	/* The verifier is to see the bound in the very register that is passed. */
	asm volatile("" : "+r"(length));
	if (length > MAX_PLAINTEXT)
		length = MAX_PLAINTEXT;
	r->length = bpf_probe_read_user(r->data, length, data) ? 0 : length;
	submit(r);
	return 0;
}

#if defined(__TARGET_ARCH_x86)
#define C_ARGUMENTS(regs) (regs)->di, (regs)->si, (regs)->dx
#define C_RESULT(regs) (s32)(regs)->ax
#define GO_ARGUMENTS(regs) (regs)->ax, (void *)(regs)->bx, (regs)->cx
#elif defined(__TARGET_ARCH_arm64)
#define C_ARGUMENTS(r) (r)->regs[0], (r)->regs[1], (r)->regs[2]
#define C_RESULT(r) (s32)(r)->regs[0]
#define GO_ARGUMENTS(r) (r)->regs[0], (void *)(r)->regs[1], (r)->regs[2]
#endif

struct tls_call {
	u64 connection;
	u64 data;
	u64 size;
};

/* Calls of C libraries that have not returned, by thread. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, u64);
	__type(value, struct tls_call);
	__uint(max_entries, 1024);
} tls_calls SEC(".maps");

static __always_inline void enter_tls(u64 connection, u64 data, u64 size)
{
	struct tls_call call = { .connection = connection, .data = data, .size = size };
	u64 thread = bpf_get_current_pid_tgid();
	struct process *p = lookup_process(thread >> 32);

	if (p && p->flags & PROCESS_STEP)
		bpf_map_update_elem(&tls_calls, &thread, &call, BPF_ANY);
}

/*
 * int SSL_write(SSL *ssl, const void *buf, int num), SSL_write_ex, and
 * ssize_t gnutls_record_send(gnutls_session_t session, const void *data, size_t size).
 * What could not be sent yet is given again, so that the result counts.
 */
SEC("uprobe/tls_write")
int tls_write(struct pt_regs *ctx)
{
	enter_tls(C_ARGUMENTS(ctx));
	return 0;
}

/* How much was taken; SSL_write_ex returns 1 for all of it. */
SEC("uretprobe/tls_written")
int tls_written(struct pt_regs *ctx)
{
	u64 thread = bpf_get_current_pid_tgid(), size;
	struct tls_call *call = bpf_map_lookup_elem(&tls_calls, &thread), c;
	s32 result = C_RESULT(ctx);

	if (!call)
		return 0;
	c = *call;
	bpf_map_delete_elem(&tls_calls, &thread);
	if (result <= 0)
		return 0;
	size = result == 1 || (u64)result > c.size ? c.size : result;
	return report_plaintext(c.connection, (void *)c.data, size, bpf_get_attach_cookie(ctx));
}

/* func (c *Conn) Write(b []byte) (int, error) of crypto/tls, in Go's own convention. */
SEC("uprobe/go_tls_write")
int go_tls_write(struct pt_regs *ctx)
{
	return report_plaintext(GO_ARGUMENTS(ctx), bpf_get_attach_cookie(ctx));
}

#endif
