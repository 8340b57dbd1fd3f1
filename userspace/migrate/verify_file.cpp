// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/verify_file.h"

#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "userspace/memcached/dump.h"
#include "userspace/util/file.h"

namespace doppel::migrate {
namespace {
using SortedJson = nlohmann::json;

constexpr int kVersion = 5;
constexpr std::string_view kProgressMagic = "{\"doppel_verify\":"; // names are in their order
constexpr std::string_view kListMagic = "doppel verify 4, keys\n";
constexpr FileKind kProgressFile = {"--resume", "file of doppel verify", 1};

struct Place {
  const char *name;
  uint64_t VerifyProgress::*value;
};
constexpr Place kProgressPlaces[] = {
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

SortedJson json_of(const VerifyProgress &p) {
  SortedJson j = {{"at_extra", p.at_extra}, {"seconds", p.counts.seconds}};
  for (const auto &[name, value] : kProgressPlaces)
    j[name] = p.*value;
  for (const auto &[name, value] : kVerifyCounts)
    j["counts"][name] = p.counts.*value;
  return j;
}

VerifyProgress progress_of(const SortedJson &j) {
  VerifyProgress p;
  p.at_extra = j.at("at_extra").get<bool>();
  p.counts.seconds = j.at("seconds").get<double>();
  for (const auto &[name, value] : kProgressPlaces)
    p.*value = j.at(name).get<uint64_t>();
  for (const auto &[name, value] : kVerifyCounts)
    p.counts.*value = j.at("counts").at(name).get<uint64_t>();
  return p;
}

Error no_progress(const std::string &name) {
  return {name, "is a file of another doppel verify", "name one that does not exist yet",
          Exit::usage};
}

} // namespace

Result<VerifyFile> VerifyFile::open(const std::string &name, const std::string &of,
                                    const std::string &since, const Flushes &flushes) {
  VerifyFile file;
  file.name_ = name;
  file.of_ = of;
  file.since_ = since;
  file.flushes_ = flushes;
  if (name.empty())
    return file;
  for (const char *suffix : {".source", ".target", ".new"})
    TRY(find_own(name + suffix, file.kind(suffix)));
  TRY(file.read());
  TRY(file.lock());
  return file;
}

OwnKind VerifyFile::kind(const std::string &suffix) const {
  if (suffix.empty())
    return {"file of doppel verify", kProgressMagic, "name one that does not exist yet"};
  const bool is_list = suffix != ".new";
  return {"file of doppel verify", is_list ? kListMagic : kProgressMagic,
          "--resume " + name_ + " needs that name: move what is there, or name another file"};
}

Status VerifyFile::lock() {
  const std::string list = name_ + ".source";
  auto own = TRY(open_own(list, kind(".source")));
  if (::flock(own.fd.get(), LOCK_EX | LOCK_NB) != 0)
    return Error{name_, "another doppel verify goes by it", "wait until it is done", Exit::failure};
  lock_ = std::move(own.fd);
  if (progress_)
    return Unit{};
  if (::ftruncate(lock_.get(), 0) != 0)
    return sys_error(list, "cannot be written", errno);
  if (const int err = write_all(lock_.get(), kListMagic); err != 0) {
    if (own.is_ours)
      remove_own(lock_.get(), list);
    return sys_error(list, "cannot be written", err);
  }
  return Unit{};
}

Status VerifyFile::read() {
  const auto own = TRY(find_own(name_, kind("")));
  if (!own.is_ours)
    return Unit{};
  const SortedJson j =
      SortedJson::parse(TRY(read_file(own.fd.get(), name_, kProgressFile)), nullptr, false);
  try {
    if (j.is_discarded() || j.at("doppel_verify").get<int>() != kVersion)
      return no_progress(name_);
    if (j.at("of").get<std::string>() != of_)
      return Error{name_, "is of other servers, or of other options",
                   "the command must be the one that was interrupted", Exit::usage};
    if (j.at("since").get<std::string>() != since_)
      return Error{name_, "is of before one of the servers was started anew",
                   "remove it, and verify anew", Exit::failure};
    flushes_ = {j.at("source_flushes").get<uint64_t>(), j.at("target_flushes").get<uint64_t>()};
    progress_ = progress_of(j.at("progress"));
  } catch (const SortedJson::exception &) {
    return no_progress(name_);
  }
  return Unit{};
}

Result<KeyList> VerifyFile::source_list(memcached::Connection &source, bool fresh) {
  return fresh ? fresh_list(source, ".source")
               : kept_list(".source", progress_->source_keys,
                           {progress_->source_bytes, progress_->source_crc});
}

Result<KeyList> VerifyFile::target_list(memcached::Connection &target, bool fresh) {
  return fresh ? fresh_list(target, ".target")
               : kept_list(".target", progress_->target_keys,
                           {progress_->target_bytes, progress_->target_crc});
}

Result<KeyList> VerifyFile::fresh_list(memcached::Connection &c, const char *suffix) const {
  if (!is_kept())
    return list_keys(c);
  const std::string name = name_ + suffix;
  KeyList list;
  list.file = TRY(open_own(name, kind(suffix))).fd;
  if (const auto status = fill(list, c, name); !status) {
    remove_own(list.file.get(), name); // a part of a list is of no use
    return status.errors();
  }
  return list;
}

Status VerifyFile::fill(KeyList &list, memcached::Connection &c, const std::string &name) {
  if (::ftruncate(list.file.get(), 0) != 0)
    return sys_error(name, "cannot be written", errno);
  if (const int err = write_all(list.file.get(), kListMagic); err != 0)
    return sys_error(name, "cannot be written", err);
  list.start = kListMagic.size();
  TRY(memcached::dump_keys(c, list.file.get(), list.keys));
  if (::fdatasync(list.file.get()) != 0) // before a progress that says that it is whole
    return sys_error(name, "cannot be written", errno);
  list.sum = TRY(list_sum(list.file.get(), list.start, name));
  return Unit{};
}

Result<KeyList> VerifyFile::kept_list(const char *suffix, uint64_t keys,
                                      const ListSum &kept) const {
  const std::string name = name_ + suffix;
  KeyList list;
  list.file = TRY(find_own(name, kind(suffix))).fd;
  if (!list.file)
    return Error{name, "is gone", how_to_begin_anew(), Exit::failure};
  list.keys = keys;
  list.start = kListMagic.size();
  list.sum = TRY(list_sum(list.file.get(), list.start, name));
  if (const std::string how = how_it_differs(kept, list.sum); !how.empty())
    return Error{name, "is damaged: " + how, how_to_begin_anew(), Exit::failure};
  return list;
}

Status VerifyFile::save(const VerifyProgress &progress) {
  if (!is_kept())
    return Unit{};
  const SortedJson j = {{"doppel_verify", kVersion},
                        {"of", of_},
                        {"since", since_},
                        {"source_flushes", flushes_.source},
                        {"target_flushes", flushes_.target},
                        {"progress", json_of(progress)}};
  auto status = replace(j.dump() + "\n");
  if (!status && !progress_ && !is_saved_)
    remove(); // nothing tells of the lists
  is_saved_ = is_saved_ || status;
  return status;
}

// As a whole, or not at all.
Status VerifyFile::replace(const std::string &text) {
  const std::string next = name_ + ".new";
  TRY(find_own(name_, kind("")));
  const auto own = TRY(open_own(next, kind(".new")));
  int err = ::ftruncate(own.fd.get(), 0) == 0 ? write_all(own.fd.get(), text) : errno;
  if (err == 0 && std::rename(next.c_str(), name_.c_str()) != 0)
    err = errno;
  if (err == 0)
    return Unit{};
  remove_own(own.fd.get(), next);
  return sys_error(name_, "cannot be written", err);
}

std::string VerifyFile::how_to_begin_anew() const {
  return "remove " + name_ + ", " + name_ + ".source and " + name_ + ".target, and verify anew";
}

void VerifyFile::remove() {
  if (!is_kept())
    return;
  for (const char *suffix : {"", ".new", ".target", ".source"}) // the lock last
    remove_own(name_ + suffix, kind(suffix));
}

} // namespace doppel::migrate
