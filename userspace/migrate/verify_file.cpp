// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/verify_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "userspace/memcached/dump.h"
#include "userspace/util/file.h"

namespace doppel::migrate {
namespace {
using Json = nlohmann::json;

constexpr int kVersion = 3;
constexpr FileKind kProgressFile = {"--resume", "file of doppel verify", 1};

struct Place {
  const char *name;
  uint64_t VerifyProgress::*value;
};
constexpr Place kPlaces[] = {
    {"offset", &VerifyProgress::offset},
    {"source_keys", &VerifyProgress::source_keys},
    {"target_keys", &VerifyProgress::target_keys},
    {"source_bytes", &VerifyProgress::source_bytes},
    {"target_bytes", &VerifyProgress::target_bytes},
    {"source_crc", &VerifyProgress::source_crc},
    {"target_crc", &VerifyProgress::target_crc},
    {"seen", &VerifyProgress::seen},
    {"unnamed", &VerifyProgress::unnamed},
    {"listed", &VerifyProgress::listed},
};

Json json_of(const VerifyProgress &p) {
  Json j = {{"at_extra", p.at_extra}, {"seconds", p.counts.seconds}};
  for (const auto &[name, value] : kPlaces)
    j[name] = p.*value;
  for (const auto &[name, value] : kVerifyCounts)
    j["counts"][name] = p.counts.*value;
  return j;
}

VerifyProgress progress_of(const Json &j) {
  VerifyProgress p;
  p.at_extra = j.at("at_extra").get<bool>();
  p.counts.seconds = j.at("seconds").get<double>();
  for (const auto &[name, value] : kPlaces)
    p.*value = j.at(name).get<uint64_t>();
  for (const auto &[name, value] : kVerifyCounts)
    p.counts.*value = j.at("counts").at(name).get<uint64_t>();
  return p;
}

Error no_progress(const std::string &name) {
  return {name, "is no file of doppel verify", "name one that does not exist yet", Exit::usage};
}

} // namespace

Result<VerifyFile> VerifyFile::open(const std::string &name, const std::string &of,
                                    const std::string &since) {
  VerifyFile file;
  file.name_ = name;
  file.of_ = of;
  file.since_ = since;
  if (name.empty())
    return file;
  TRY(file.read());
  const std::string list = name + ".source";
  file.lock_ = Fd(::open(list.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!file.lock_)
    return sys_error(list, "cannot be opened", errno);
  if (::flock(file.lock_.get(), LOCK_EX | LOCK_NB) != 0)
    return Error{name, "another doppel verify goes by it", "wait until it is done", Exit::failure};
  return file;
}

Status VerifyFile::read() {
  const Fd fd(::open(name_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd)
    return errno == ENOENT ? Status(Unit{}) : sys_error(name_, "cannot be opened", errno);
  const Json j = Json::parse(TRY(read_file(fd.get(), name_, kProgressFile)), nullptr, false);
  try {
    if (j.is_discarded() || j.at("doppel_verify").get<int>() != kVersion)
      return no_progress(name_);
    if (j.at("of").get<std::string>() != of_)
      return Error{name_, "is of other servers, or of other options",
                   "the command must be the one that was interrupted", Exit::usage};
    if (j.at("since").get<std::string>() != since_)
      return Error{name_, "is of before one of the servers was started anew",
                   "remove it, and verify anew", Exit::failure};
    progress_ = progress_of(j.at("progress"));
  } catch (const Json::exception &) {
    return no_progress(name_);
  }
  return Unit{};
}

Result<KeyList> VerifyFile::source_list(memcached::Connection &source, bool fresh) {
  const std::string name = name_ + ".source";
  return fresh ? fresh_list(source, name)
               : kept_list(name, progress_->source_keys,
                           {progress_->source_bytes, progress_->source_crc});
}

Result<KeyList> VerifyFile::target_list(memcached::Connection &target, bool fresh) {
  const std::string name = name_ + ".target";
  return fresh ? fresh_list(target, name)
               : kept_list(name, progress_->target_keys,
                           {progress_->target_bytes, progress_->target_crc});
}

Result<KeyList> VerifyFile::fresh_list(memcached::Connection &c, const std::string &name) const {
  if (!is_kept())
    return list_keys(c);
  KeyList list;
  list.file = Fd(::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!list.file)
    return sys_error(name, "cannot be opened", errno);
  if (::ftruncate(list.file.get(), 0) != 0)
    return sys_error(name, "cannot be written", errno);
  TRY(memcached::dump_keys(c, list.file.get(), list.keys));
  if (::fdatasync(list.file.get()) != 0) // before a progress that says that it is whole
    return sys_error(name, "cannot be written", errno);
  list.sum = TRY(list_sum(list.file.get(), 0, name));
  return list;
}

Result<KeyList> VerifyFile::kept_list(const std::string &name, uint64_t keys,
                                      const ListSum &kept) const {
  KeyList list;
  list.file = Fd(::open(name.c_str(), O_RDONLY | O_CLOEXEC));
  if (!list.file)
    return sys_error(name, "cannot be opened", errno, how_to_begin_anew());
  list.keys = keys;
  list.sum = TRY(list_sum(list.file.get(), 0, name));
  if (const std::string how = how_it_differs(kept, list.sum); !how.empty())
    return Error{name, "is damaged: " + how, how_to_begin_anew(), Exit::failure};
  return list;
}

Status VerifyFile::save(const VerifyProgress &progress) {
  if (!is_kept())
    return Unit{};
  const Json j = {
      {"doppel_verify", kVersion}, {"of", of_}, {"since", since_}, {"progress", json_of(progress)}};
  return replace(j.dump() + "\n");
}

// As a whole, or not at all.
Status VerifyFile::replace(const std::string &text) {
  const std::string next = name_ + ".new";
  const Fd fd(::open(next.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  int err = fd ? write_all(fd.get(), text) : errno;
  if (err == 0 && std::rename(next.c_str(), name_.c_str()) != 0)
    err = errno;
  if (err == 0)
    return Unit{};
  if (fd)
    ::unlink(next.c_str());
  return sys_error(name_, "cannot be written", err);
}

std::string VerifyFile::how_to_begin_anew() const {
  return "remove " + name_ + ", " + name_ + ".source and " + name_ + ".target, and verify anew";
}

void VerifyFile::remove() {
  if (!is_kept())
    return;
  for (const char *suffix : {"", ".target", ".source"}) // the lock last
    ::unlink((name_ + suffix).c_str());
}

} // namespace doppel::migrate
