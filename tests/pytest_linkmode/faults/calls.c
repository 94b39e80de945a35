/* One system call, made raw: `calls NAME`, in a directory with a file `a`. Says what it returned.
 *
 * The names are those of the table of ways, with the form after a colon. Whatever has to be there
 * before the call is made in ways that the table does not have, or is reported as it fails.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define IS(name) (strcmp(call, name) == 0)
#define SAY(value) (result = (value), said = 1)

static char bytes[4096];

static int source(void) { return open("a", O_RDONLY); }

static int target(void) { return open("b", O_CREAT | O_RDWR | O_TRUNC, 0644); }

static void ignore(int number) { (void)number; }

static void *twenty_directories(void *name)
{
    char path[64];
    for (int i = 0; i < 20; i++) {
        snprintf(path, sizeof path, "%s-%d", (char *)name, i);
        syscall(SYS_mkdirat, AT_FDCWD, path, 0755);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    const char *call = argc > 1 ? argv[1] : "";
    long result = -1, said = 0;
    struct iovec one = {bytes, sizeof bytes}, two[2] = {{bytes, 100}, {bytes, 200}};

    errno = 0;
    if (IS("ioctl:FICLONE"))
        SAY(syscall(SYS_ioctl, target(), FICLONE, source()));
    else if (IS("ioctl:FICLONE:high")) /* bits that the kernel never reads */
        SAY(syscall(SYS_ioctl, target(), 0xdeadbeef00000000UL | FICLONE, source()));
    else if (IS("ioctl:FICLONERANGE")) {
        struct file_clone_range range = {source(), 0, 0, 0};
        SAY(syscall(SYS_ioctl, target(), FICLONERANGE, &range));
    } else if (IS("ioctl:OCFS2_IOC_REFLINK")) {
        struct { uint64_t old_path, new_path, preserve; } paths = {(uintptr_t)"a", (uintptr_t)"b", 0};
        SAY(syscall(SYS_ioctl, source(), 0x40186f04UL, &paths));
    } else if (IS("ioctl:CIFS_IOC_COPYCHUNK_FILE"))
        SAY(syscall(SYS_ioctl, target(), 0x4004cf03UL, source()));
    else if (IS("linkat"))
        SAY(syscall(SYS_linkat, AT_FDCWD, "a", AT_FDCWD, "b", 0));
    else if (IS("linkat:descriptor")) {
        int directory = open(".", O_PATH);
        SAY(syscall(SYS_linkat, source(), "", directory, "b", AT_EMPTY_PATH));
    } else if (IS("symlinkat"))
        SAY(syscall(SYS_symlinkat, "a", AT_FDCWD, "b"));
    else if (IS("copy_file_range"))
        SAY(syscall(SYS_copy_file_range, source(), NULL, target(), NULL, 1L << 30, 0));
    else if (IS("sendfile"))
        SAY(syscall(SYS_sendfile, target(), source(), NULL, 1L << 20));
    else if (IS("splice")) {
        int ends[2];
        if (pipe(ends) || vmsplice(ends[1], &one, 1, 0) < 0)
            return 99;
        SAY(syscall(SYS_splice, ends[0], NULL, target(), NULL, sizeof bytes, 0));
    } else if (IS("write"))
        SAY(syscall(SYS_write, target(), bytes, sizeof bytes));
    else if (IS("write:old")) /* a file that was there before is not copied into */
        SAY(syscall(SYS_write, open("a", O_WRONLY), bytes, sizeof bytes));
    else if (IS("write:nameless"))
        SAY(syscall(SYS_write, open(".", O_TMPFILE | O_RDWR, 0644), bytes, sizeof bytes));
    else if (IS("pwrite64"))
        SAY(syscall(SYS_pwrite64, target(), bytes, sizeof bytes, 0L));
    else if (IS("writev"))
        SAY(syscall(SYS_writev, target(), &one, 1L));
    else if (IS("writev:two"))
        SAY(syscall(SYS_writev, target(), two, 2L));
    else if (IS("pwritev"))
        SAY(syscall(SYS_pwritev, target(), &one, 1L, 0L, 0L));
    else if (IS("pwritev2"))
        SAY(syscall(SYS_pwritev2, target(), &one, 1L, -1L, 0L, 0));
    else if (IS("openat"))
        SAY(syscall(SYS_openat, AT_FDCWD, "b", O_CREAT | O_WRONLY, 0644));
    else if (IS("openat:old"))
        SAY(syscall(SYS_openat, AT_FDCWD, "a", O_WRONLY, 0));
    else if (IS("openat:O_TMPFILE"))
        SAY(syscall(SYS_openat, AT_FDCWD, ".", O_TMPFILE | O_RDWR, 0644));
    else if (IS("openat2") || IS("openat2:old")) {
        uint64_t how[3] = {IS("openat2") ? O_CREAT | O_WRONLY : O_RDONLY, IS("openat2") ? 0644 : 0, 0};
        SAY(syscall(SYS_openat2, AT_FDCWD, IS("openat2") ? "b" : "a", how, sizeof how));
    } else if (IS("mknodat"))
        SAY(syscall(SYS_mknodat, AT_FDCWD, "b", S_IFREG | 0644, 0));
    else if (IS("mknodat:plain"))
        SAY(syscall(SYS_mknodat, AT_FDCWD, "b", 0644, 0));
    else if (IS("mknodat:fifo"))
        SAY(syscall(SYS_mknodat, AT_FDCWD, "b", S_IFIFO | 0644, 0));
    else if (IS("mkdirat"))
        SAY(syscall(SYS_mkdirat, AT_FDCWD, "b", 0755));
    else if (IS("renameat"))
        SAY(syscall(SYS_renameat, AT_FDCWD, "a", AT_FDCWD, "b"));
    else if (IS("renameat2"))
        SAY(syscall(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "b", 0));
    else if (IS("unlinkat"))
        SAY(syscall(SYS_unlinkat, AT_FDCWD, "a", 0));
    else if (IS("io_uring_setup"))
        SAY(syscall(SYS_io_uring_setup, 1, bytes));
#ifdef __x86_64__
    else if (IS("link"))
        SAY(syscall(SYS_link, "a", "b"));
    else if (IS("symlink"))
        SAY(syscall(SYS_symlink, "a", "b"));
    else if (IS("open"))
        SAY(syscall(SYS_open, "b", O_CREAT | O_WRONLY, 0644));
    else if (IS("open:O_TMPFILE"))
        SAY(syscall(SYS_open, ".", O_TMPFILE | O_RDWR, 0644));
    else if (IS("creat"))
        SAY(syscall(SYS_creat, "b", 0644));
    else if (IS("mknod"))
        SAY(syscall(SYS_mknod, "b", S_IFREG | 0644, 0));
    else if (IS("mkdir"))
        SAY(syscall(SYS_mkdir, "b", 0755));
    else if (IS("rename"))
        SAY(syscall(SYS_rename, "a", "b"));
    else if (IS("unlink"))
        SAY(syscall(SYS_unlink, "a"));
    else if (IS("rmdir"))
        SAY(syscall(SYS_rmdir, "d"));
    else if (IS("mkdir:i386")) { /* the 32-bit entry: number 39 there is mkdir */
        static char name[] = "b";
        long number = 39;
        __asm__ volatile("int $0x80" : "+a"(number) : "b"(name), "c"(0755) : "memory");
        errno = number < 0 ? -number : 0;
        SAY(number < 0 ? -1 : number);
    } else if (IS("mkdir:x32"))
        SAY(syscall(0x40000000L | SYS_mkdir, "b", 0755));
#endif
    else if (IS("mkdirs:signals")) { /* 100 directories under a timer of 300 microseconds */
        struct itimerval often = {{0, 300}, {0, 300}};
        struct sigaction action = {.sa_handler = ignore, .sa_flags = SA_RESTART};
        sigaction(SIGALRM, &action, NULL);
        setitimer(ITIMER_REAL, &often, NULL);
        result = 0;
        for (int i = 0; i < 100; i++) {
            char path[16];
            snprintf(path, sizeof path, "d%d", i);
            result += syscall(SYS_mkdirat, AT_FDCWD, path, 0755) == 0;
        }
        said = 1;
    } else if (IS("mkdirs:threads")) { /* 4 threads and a child, 20 directories each */
        pthread_t threads[4];
        char names[4][4] = {"t0", "t1", "t2", "t3"};
        for (int i = 0; i < 4; i++)
            pthread_create(&threads[i], NULL, twenty_directories, names[i]);
        pid_t child = fork();
        if (child == 0) {
            twenty_directories("c");
            _exit(0);
        }
        for (int i = 0; i < 4; i++)
            pthread_join(threads[i], NULL);
        waitpid(child, NULL, 0);
        SAY(0);
    }
    if (!said)
        return 98;
    printf("%ld %d\n", result, result < 0 ? errno : 0);
    return 0;
}
