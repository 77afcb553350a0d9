// Loaded into training processes (LD_PRELOAD): there they wait where a test wants to act, however busy the machine is.
//   RUN_DIR/hold       holds a number N: rank 0 waits after its N-th line of RUN_DIR/metrics.jsonl, while the file is there
//   RUN_DIR/hold_save  holds a name, "step-40.partial": a rank waits before it syncs its optimizer's file of that folder
//   RUN_DIR/pace       holds microseconds: so long rank 0 sleeps after each line of metrics.jsonl
// RUN_DIR/held is there while a process waits.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum { kPathSize = 4096 };

// The file's text, "" where there is none.
static void ReadWord(const char* folder, const char* name, char* word, size_t size) {
  char path[kPathSize + 16];
  word[0] = 0;
  snprintf(path, sizeof(path), "%s/%s", folder, name);
  FILE* file = fopen(path, "re");
  if (!file) return;
  if (!fgets(word, (int)size, file)) word[0] = 0;
  word[strcspn(word, "\n")] = 0;
  fclose(file);
}

static void Mark(const char* folder) {
  char held[kPathSize + 16];
  snprintf(held, sizeof(held), "%s/held", folder);
  const int mark = open(held, O_CREAT | O_WRONLY | O_CLOEXEC, 0666);
  if (mark >= 0) close(mark);
}

static void Unmark(const char* folder) {
  char held[kPathSize + 16];
  snprintf(held, sizeof(held), "%s/held", folder);
  unlink(held);
}

// Cuts the path of an open file at `part`; what was behind it, or NULL where the path has no such part.
static const char* CutPath(int fd, const char* part, char* path) {
  char link[32];
  snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
  const ssize_t size = readlink(link, path, kPathSize - 1);
  if (size <= 0) return NULL;
  path[size] = 0;
  char* found = strstr(path, part);
  if (!found) return NULL;
  *found = 0;
  return found + strlen(part);
}

ssize_t write(int fd, const void* data, size_t size) {
  static ssize_t (*real)(int, const void*, size_t) = NULL;
  static long lines = 0;
  if (!real) real = (ssize_t(*)(int, const void*, size_t))dlsym(RTLD_NEXT, "write");
  const ssize_t done = real(fd, data, size);
  const int error = errno;
  char folder[kPathSize], word[64];
  if (done > 0 && CutPath(fd, "/metrics.jsonl", folder)) {
    long written = 0;
    for (ssize_t i = 0; i < done; ++i) written += ((const char*)data)[i] == '\n';
    if (written == 1) ++lines;  // more are those of before, which a start keeps
    ReadWord(folder, "pace", word, sizeof(word));
    if (word[0]) usleep((useconds_t)atol(word));
    int waited = 0;
    for (ReadWord(folder, "hold", word, sizeof(word)); word[0] && lines >= atol(word);
         ReadWord(folder, "hold", word, sizeof(word))) {
      if (!waited++) Mark(folder);
      usleep(10000);
    }
    if (waited) Unmark(folder);
  }
  errno = error;
  return done;
}

int fsync(int fd) {
  static int (*real)(int) = NULL;
  if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
  char folder[kPathSize], word[64];
  const char* file = CutPath(fd, "/checkpoints/", folder);
  if (file && strstr(file, "optimizer")) {
    int waited = 0;
    for (ReadWord(folder, "hold_save", word, sizeof(word)); word[0] && strstr(file, word);
         ReadWord(folder, "hold_save", word, sizeof(word))) {
      if (!waited++) Mark(folder);
      usleep(10000);
    }
    if (waited) Unmark(folder);
  }
  return real(fd);
}
