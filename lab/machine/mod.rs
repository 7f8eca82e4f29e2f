//! One QEMU process: accelerator choice, argument vector, QMP, console, disk.
