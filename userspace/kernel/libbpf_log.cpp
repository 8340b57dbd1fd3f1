// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/libbpf_log.h"

#include <bpf/libbpf.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <vector>

#include "userspace/util/fd.h"

namespace doppel {
namespace {
constexpr char kBegin[] = "-- BEGIN PROG LOAD LOG --\n";
constexpr char kEnd[] = "-- END PROG LOAD LOG --";
constexpr size_t kTailLines = 6;

std::string *collected = nullptr;
int verbosity = 0;

int print(libbpf_print_level level, const char *format, va_list args) {
  va_list again;
  va_copy(again, args);
  int len = std::vsnprintf(nullptr, 0, format, args);
  std::string text(static_cast<size_t>(len < 0 ? 0 : len) + 1, '\0');
  std::vsnprintf(text.data(), text.size(), format, again);
  va_end(again);
  text.pop_back();
  if (verbosity > 1 || (verbosity > 0 && level == LIBBPF_WARN))
    std::fputs(text.c_str(), stderr);
  if (collected && level == LIBBPF_WARN)
    *collected += text;
  return len;
}

// The name in "<before>'NAME'", looked for in the lines that contain `also`.
std::string quoted_name(const std::string &log, const std::string &before,
                        const std::string &also) {
  for (size_t at = 0; at < log.size();) {
    size_t end = log.find('\n', at);
    std::string line = log.substr(at, end == std::string::npos ? end : end - at);
    size_t name = line.find(before + "'");
    if (name != std::string::npos && line.find(also) != std::string::npos) {
      name += before.size() + 1;
      return line.substr(name, line.find('\'', name) - name);
    }
    if (end == std::string::npos)
      break;
    at = end + 1;
  }
  return {};
}

std::string last_lines(const std::string &text, size_t n) {
  size_t at = text.size();
  while (n-- && at) {
    at = text.rfind('\n', at - 1);
    if (at == std::string::npos)
      return text;
  }
  return text.substr(at ? at + 1 : 0);
}

// Empty if it cannot be written; then the tail in the error has to do.
std::string save(const std::string &log) {
  const char *dir = std::getenv("TMPDIR");
  std::string path = std::string(dir && *dir ? dir : "/tmp") + "/doppel-verifier-XXXXXX.log";
  Fd file(::mkstemps(path.data(), 4));
  if (!file || ::write(file.get(), log.data(), log.size()) != static_cast<ssize_t>(log.size()))
    return {};
  return path;
}

} // namespace

LibbpfLog::LibbpfLog() {
  collected = new std::string;
  libbpf_set_print(print);
}

LibbpfLog::~LibbpfLog() {
  delete collected;
  collected = nullptr;
}

void show_libbpf(int level) { verbosity = level; }

void quiet_libbpf() { libbpf_set_print(print); }

Error LibbpfLog::verifier_error(const std::string &program, int err) const {
  const std::string &log = *collected;
  if (hint_of(err)) // it did not come to the verifier
    return sys_error("program " + program, "cannot be loaded", err);
  Error e = sys_error("program " + program, "the kernel's verifier rejected it", err,
                      "doppel probe tells what this kernel lacks");
  size_t begin = log.find(kBegin);
  if (begin == std::string::npos)
    return e;
  begin += sizeof(kBegin) - 1;
  size_t end = log.find(kEnd, begin);
  std::string verifier = log.substr(begin, end == std::string::npos ? end : end - begin);
  while (!verifier.empty() && verifier.back() == '\n')
    verifier.pop_back();
  e.what += "\n" + last_lines(verifier, kTailLines);
  if (std::string path = save(log); !path.empty())
    e.hint = "please report it with the whole log, " + path;
  return e;
}

Error LibbpfLog::load_error(int err) const {
  static const std::map<std::string, std::string> sized{
      {"store", "lower \"store\" in the configuration"},
      {"chunks", "lower \"store\" in the configuration"},
      {"free_chunks", "lower \"store\" in the configuration"},
      {"flows", "lower \"flows\" in the configuration"},
      {"syns", "lower \"flows\" in the configuration"},
      {"shadows", "use fewer \"shadow_ports\" in the configuration"},
      {"free_slots", "use fewer \"shadow_ports\" in the configuration"}};
  if (std::string map = quoted_name(*collected, "map ", "failed to create"); !map.empty()) {
    auto hint = sized.find(map);
    return sys_error("map " + map, "cannot be created", err,
                     hint != sized.end() ? hint->second : "doppel probe");
  }
  if (std::string program = quoted_name(*collected, "prog ", "load failed"); !program.empty())
    return verifier_error(program, err);
  return sys_error("data plane", "cannot be loaded", err,
                   collected->empty() ? "doppel probe" : last_lines(*collected, 2));
}

} // namespace doppel
