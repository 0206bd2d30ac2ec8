package detector

import (
	sallyportv1 "github.com/sallyport-ci/sallyport/proto/sallyport/v1"
)

var operations = map[sallyportv1.FileOperation]string{
	sallyportv1.FileOperation_FILE_OPERATION_READ:    "read",
	sallyportv1.FileOperation_FILE_OPERATION_WRITTEN: "written",
	sallyportv1.FileOperation_FILE_OPERATION_ENTERED: "entered",
	sallyportv1.FileOperation_FILE_OPERATION_LEFT:    "left",
}

var privileges = map[sallyportv1.PrivilegeKind]string{
	sallyportv1.PrivilegeKind_PRIVILEGE_KIND_GAINED:     "gained",
	sallyportv1.PrivilegeKind_PRIVILEGE_KIND_NAMESPACES: "namespaces",
	sallyportv1.PrivilegeKind_PRIVILEGE_KIND_MODULE:     "module",
	sallyportv1.PrivilegeKind_PRIVILEGE_KIND_BPF:        "bpf",
	sallyportv1.PrivilegeKind_PRIVILEGE_KIND_SIGNAL:     "signal",
	sallyportv1.PrivilegeKind_PRIVILEGE_KIND_PACKETS:    "packets",
}

var accessNames = map[sallyportv1.AccessKind]string{
	sallyportv1.AccessKind_ACCESS_KIND_PROC_MEM:     "proc-mem",
	sallyportv1.AccessKind_ACCESS_KIND_PROC_MAPS:    "proc-maps",
	sallyportv1.AccessKind_ACCESS_KIND_PROC_ENVIRON: "proc-environ",
	sallyportv1.AccessKind_ACCESS_KIND_PTRACE:       "ptrace",
	sallyportv1.AccessKind_ACCESS_KIND_VM_READ:      "vm-read",
	sallyportv1.AccessKind_ACCESS_KIND_VM_WRITE:     "vm-write",
}
