"""What NVIDIA's Xid numbers mean, for the ones that end or slow runs (NVIDIA, "Xid Errors", deployment guide r580)."""

from __future__ import annotations

XID_MEANING: dict[int, str] = {
    13: "graphics engine exception: usually a fault of the program",
    31: "GPU memory page fault: usually a fault of the program",
    32: "corrupted push buffer: bus or driver",
    38: "driver firmware error",
    43: "GPU stopped processing: the program was ended",
    45: "preemptive cleanup after an earlier error",
    46: "GPU stopped processing: reset needed",
    48: "double-bit ECC error: reset needed",
    61: "internal micro-controller breakpoint: reset needed",
    62: "internal micro-controller halt: reset needed",
    63: "a row of memory is marked for remapping",
    64: "remapping a row of memory failed: reset needed",
    69: "graphics engine class error",
    74: "NVLink error",
    79: "GPU has fallen off the bus: power, cooling or seat; reboot",
    92: "high rate of single-bit ECC errors",
    94: "contained ECC error: the program was ended, reset soon",
    95: "uncontained ECC error: reset needed",
    109: "context switch timeout",
    119: "GSP does not answer: reset needed",
    120: "GSP error: reset needed",
    140: "unrecovered ECC error: reset needed",
}
