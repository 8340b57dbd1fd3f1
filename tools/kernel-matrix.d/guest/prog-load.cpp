// SPDX-License-Identifier: Apache-2.0
// Loads each program of a BPF object by itself and reports what the verifier
// thinks of it. For a rejected one, the verifier's log goes to a file.
//
//   prog-load OBJECT LOGDIR     lines "prog ...", "pass ..." and "fail ..." on stdout
//   prog-load --loaded PREFIX   lines "prog ..." of what is in the kernel already, by name
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <unistd.h>

#include "doppel/abi.h"

namespace {

constexpr uint32_t log_level1 = 1; // kernel/bpf/verifier.c: BPF_LOG_LEVEL1
constexpr uint32_t log_stats = 4;  // BPF_LOG_STATS: the summary only
constexpr uint32_t default_entries = 64;
constexpr uint32_t ring_bytes = 256 << 10;

// Programs see their configuration as constants, and the verifier prunes by them. These are in
// the range that user space would choose; zeros would hide most of the code, and so would a target
// with a single address.
constexpr dp_config typical = {
    .netns = 1,
    .cookie = 0x12345678,
    .link = 2,
    .clock = 3,
    .clone_flags = 0,
    .port_first = 16384,
    .ports = 16384,
    .slots = 4 * 16384,
#define DP_DEFAULT_user_space(field, standard)
#define DP_DEFAULT_data_plane(field, standard) .field = standard,
#define DP_SETTING(key, former, measure, field, home, when, min, max, standard, help)              \
  DP_DEFAULT_##home(field, standard)
#include "doppel/settings.def"
};

constexpr uint32_t log_size = 64 << 20;
const auto verifier_log = std::make_unique_for_overwrite<char[]>(log_size);
std::string libbpf_says; // its own explanation, of a failed relocation for instance

int collect(libbpf_print_level level, const char *format, va_list args) {
  char line[1024];
  if (level == LIBBPF_WARN && vsnprintf(line, sizeof line, format, args) > 0)
    libbpf_says += line;
  return 0;
}

// Where `cfg` lies in .rodata, or -1 if the object has none.
int config_offset(bpf_object *object) {
  const btf *types = bpf_object__btf(object);
  const int section = types ? btf__find_by_name_kind(types, ".rodata", BTF_KIND_DATASEC) : -1;
  if (section < 0)
    return -1;
  const btf_type *type = btf__type_by_id(types, section);
  const btf_var_secinfo *variable = btf_var_secinfos(type);
  for (int i = 0; i < btf_vlen(type); i++, variable++) {
    const btf_type *what = btf__type_by_id(types, variable->type);
    if (variable->size == sizeof typical &&
        !strcmp(btf__name_by_offset(types, what->name_off), "cfg"))
      return static_cast<int>(variable->offset);
  }
  return -1;
}

void set_config(bpf_object *object) {
  const int offset = config_offset(object);
  bpf_map *map;
  bpf_object__for_each_map(map, object) {
    size_t size = 0;
    const auto *value = static_cast<const char *>(bpf_map__initial_value(map, &size));
    if (offset < 0 || !value || !std::string_view(bpf_map__name(map)).ends_with(".rodata"))
      continue;
    std::vector<char> copy(value, value + size);
    memcpy(copy.data() + offset, &typical, sizeof typical);
    bpf_map__set_initial_value(map, copy.data(), size);
  }
}

// Sizes that user space decides at load time are 0 in the object.
void set_sizes(bpf_object *object) {
  bpf_map *map;
  bpf_object__for_each_map(map, object) {
    if (bpf_map__max_entries(map) == 0)
      bpf_map__set_max_entries(map, bpf_map__type(map) == BPF_MAP_TYPE_RINGBUF ? ring_bytes
                                                                               : default_entries);
  }
}

// 0, or the negative error with which loading that one program ended.
int load(const char *file, const char *name, uint32_t log_level) {
  bpf_object *object = bpf_object__open_file(file, nullptr);
  if (!object)
    return -errno;
  bpf_program *program;
  bpf_object__for_each_program(program, object)
      bpf_program__set_autoload(program, !strcmp(bpf_program__name(program), name));
  program = bpf_object__find_program_by_name(object, name);
  verifier_log[0] = 0;
  libbpf_says.clear();
  bpf_program__set_log_buf(program, verifier_log.get(), log_size);
  bpf_program__set_log_level(program, log_level);
  set_config(object);
  set_sizes(object);
  const int error = bpf_object__load(object);
  bpf_object__close(object);
  return error;
}

// What stands after these words in the verifier's summary, up to the end of a word.
std::string after(std::string_view words) {
  const std::string_view log = verifier_log.get();
  const size_t at = log.find(words);
  if (at == log.npos)
    return "";
  const std::string_view rest = log.substr(at + words.size());
  return std::string(rest.substr(0, rest.find_first_of(" \n")));
}

// Up to Linux 7.2 a sum of the functions' stacks, "stack depth 64+8"; from 7.3 the deepest chain of
// calls, "stack depth max 72".
std::string stack_depth() {
  const std::string deepest = after("stack depth max ");
  return deepest.empty() ? after("stack depth ") : deepest;
}

// The verifier's last line before its summary says why.
std::string reason() {
  std::string_view log = verifier_log.get();
  for (const char *summary : {"verification time ", "processed "})
    log = log.substr(0, log.rfind(summary));
  while (!log.empty() && log.back() == '\n')
    log.remove_suffix(1);
  std::string why(log.substr(log.rfind('\n') + 1));
  if (why.empty())
    why = libbpf_says;
  for (char &c : why)
    if (c == '\n' || c == '\t')
      c = ' ';
  return why;
}

bool load_each(const char *file, const std::string &directory) {
  bpf_object *object = bpf_object__open_file(file, nullptr);
  if (!object) {
    fprintf(stderr, "%s: %s\n", file, strerror(errno));
    return false;
  }
  const std::string base = std::string(file).substr(std::string(file).rfind('/') + 1);
  bpf_program *program;
  bpf_object__for_each_program(program, object) {
    const char *name = bpf_program__name(program);
    int error = load(file, name, log_stats);
    if (error == 0) {
      const std::string time = after("verification time ");
      printf("prog\t%s\t%s\t%s\t%s\t%s\t%s\npass\tload %s %s\n", base.c_str(), name,
             after("processed ").c_str(), after("total_states ").c_str(), stack_depth().c_str(),
             time.c_str(), base.c_str(), name);
    } else {
      // Writing down a million instructions takes minutes here, and would say nothing more.
      if (error != -E2BIG)
        error = load(file, name, log_level1 | log_stats);
      std::ofstream(directory + "/" + base + "." + name + ".verifier")
          << libbpf_says << verifier_log.get();
      printf("fail\tload %s %s\t%s: %s\n", base.c_str(), name, strerror(-error), reason().c_str());
    }
    fflush(stdout);
  }
  bpf_object__close(object);
  return true;
}

void list_loaded(std::string_view prefix) {
  for (uint32_t id = 0; bpf_prog_get_next_id(id, &id) == 0;) {
    const int fd = bpf_prog_get_fd_by_id(id);
    if (fd < 0)
      continue; // gone since
    bpf_prog_info info{};
    uint32_t size = sizeof info;
    if (bpf_obj_get_info_by_fd(fd, &info, &size) == 0 &&
        std::string_view(info.name).starts_with(prefix))
      printf("prog\tattached\t%s\t%u\t\t\t\n", info.name, info.verified_insns);
    close(fd);
  }
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: prog-load OBJECT LOGDIR | --loaded PREFIX\n");
    return 2;
  }
  if (std::string_view(argv[1]) == "--loaded") {
    list_loaded(argv[2]);
    return 0;
  }
  libbpf_set_print(collect);
  return load_each(argv[1], argv[2]) ? 0 : 1;
}
