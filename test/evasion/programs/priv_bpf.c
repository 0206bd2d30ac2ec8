/*
 * An eBPF program is loaded by the bare system call and gone at once: who looks for them
 * every now and then finds none.
 */
#include "trick.h"
#include <linux/bpf.h>

int main(void)
{
	struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_SOCKET_FILTER,
		.insns = (uintptr_t)code,
		.insn_cnt = 2,
		.license = (uintptr_t)"GPL",
	};

	close(must(syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr))));
	acted();
	return 0;
}
