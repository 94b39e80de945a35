/* Completes the registers that the kernel of a guest hands back to its host: see xstate.py.
 *
 * Preloaded into linux.uml, it stands before ptrace(2) of the C library. It needs no header and
 * no library of its own, so that a bare compiler is enough. A kernel that knows how much its
 * processor keeps gets what it asked for.
 */

enum {
    SYS_PTRACE = 101,
    PTRACE_PEEKTEXT = 1, /* these three write to an address what ptrace(3) returns */
    PTRACE_PEEKUSER = 3,
    PTRACE_GETREGSET = 0x4204,
    PTRACE_SETREGSET = 0x4205,
    NT_X86_XSTATE = 0x202,
};

struct iovec {
    void *base;
    unsigned long length;
};

extern long syscall(long number, ...);
extern int *__errno_location(void);
extern void *memcpy(void *target, const void *source, unsigned long length);

static char state[1 << 16];
static unsigned long size; /* of all that the processor keeps, in bytes; 0 before it is known */

static long complete(long pid, struct iovec *given)
{
    struct iovec whole = {state, sizeof state};

    if (size == 0) {
        /* What lies beyond the end of a shorter state is nobody's in a guest: it stays as it is
         * in a process that never used it. */
        if (syscall(SYS_PTRACE, PTRACE_GETREGSET, pid, NT_X86_XSTATE, &whole) < 0)
            return -1;
        size = whole.length;
    }
    if (given->length >= size)
        return syscall(SYS_PTRACE, PTRACE_SETREGSET, pid, NT_X86_XSTATE, given);
    memcpy(state, given->base, given->length);
    whole.length = size;
    return syscall(SYS_PTRACE, PTRACE_SETREGSET, pid, NT_X86_XSTATE, &whole);
}

long ptrace(long request, long pid, void *address, void *data)
{
    long found, status;

    if (request == PTRACE_SETREGSET && address == (void *)NT_X86_XSTATE)
        return complete(pid, data);
    if (request < PTRACE_PEEKTEXT || request > PTRACE_PEEKUSER)
        return syscall(SYS_PTRACE, request, pid, address, data);
    status = syscall(SYS_PTRACE, request, pid, address, &found);
    if (status < 0)
        return status;
    *__errno_location() = 0; /* what tells a value of -1 from an error */
    return found;
}
