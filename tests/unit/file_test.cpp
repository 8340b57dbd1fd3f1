// SPDX-License-Identifier: Apache-2.0
#include "userspace/util/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace doppel {
namespace {
namespace fs = std::filesystem;

class Files : public ::testing::Test {
protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "doppel-files-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  void TearDown() override { fs::remove_all(directory_); }

  std::string path(const std::string &name) const { return directory_ + "/" + name; }
  std::string file(const std::string &name, const std::string &text) const {
    std::ofstream(path(name)) << text;
    return path(name);
  }
  static std::string text(const std::string &name) {
    std::ifstream f(name);
    return {std::istreambuf_iterator<char>(f), {}};
  }

  const OwnKind kind_ = {"file of a test", "magic\n", "the way out"};
  std::string directory_;
};

TEST_F(Files, OfItsOwnAreMadeAndFoundAgain) {
  EXPECT_FALSE((*find_own(path("a"), kind_)).fd);
  EXPECT_FALSE(fs::exists(path("a")));
  EXPECT_TRUE((*open_own(path("a"), kind_)).is_ours);
  EXPECT_TRUE(fs::exists(path("a")));
  EXPECT_FALSE((*open_own(path("a"), kind_)).is_ours) << "an empty one may be anybody's";
  for (const char *begun : {"mag", "magic\n", "magic\nand more"}) {
    EXPECT_TRUE((*open_own(file("b", begun), kind_)).is_ours) << begun;
    EXPECT_EQ(text(path("b")), begun);
  }
}

TEST_F(Files, OfOthersAreRefused) {
  file("text", "magi what?\n");
  fs::create_directory(path("directory"));
  fs::create_symlink(file("ours", "magic\n"), path("link"));
  fs::create_symlink(path("nothing"), path("link to nothing"));
  ASSERT_EQ(::mkfifo(path("fifo").c_str(), 0600), 0);
  for (const char *name : {"text", "directory", "link", "link to nothing", "fifo"}) {
    for (const auto &refused : {open_own(path(name), kind_), find_own(path(name), kind_)}) {
      ASSERT_FALSE(refused) << name;
      EXPECT_EQ(refused.errors()[0].where, path(name));
      EXPECT_EQ(refused.errors()[0].hint, "the way out");
    }
    remove_own(path(name), kind_);
    EXPECT_TRUE(fs::exists(fs::symlink_status(path(name)))) << name;
  }
  EXPECT_FALSE(fs::exists(path("nothing")));
  EXPECT_EQ(text(path("text")), "magi what?\n");
  EXPECT_EQ(text(path("ours")), "magic\n");
}

TEST_F(Files, OfAnotherUserAreRefused) {
  if (::chown(file("a", "magic\nforged").c_str(), 65534, 65534) != 0)
    GTEST_SKIP() << "only root can make one";
  for (const auto &refused : {open_own(path("a"), kind_), find_own(path("a"), kind_)}) {
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.errors()[0].what, "belongs to another user");
  }
  remove_own(path("a"), kind_);
  EXPECT_EQ(text(path("a")), "magic\nforged");
}

TEST_F(Files, OfItsOwnAreEmptyWhenTheyAreRemoved) {
  fs::create_hard_link(file("a", "magic\nand more"), path("b"));
  remove_own(path("a"), kind_);
  EXPECT_FALSE(fs::exists(path("a")));
  EXPECT_EQ(fs::file_size(path("b")), 0U);
  remove_own(path("b"), kind_);
  EXPECT_TRUE(fs::exists(path("b"))) << "an empty one may be anybody's";
}

TEST_F(Files, OnlyWhatWasOpenedIsRemoved) {
  const auto own = open_own(path("a"), kind_);
  fs::rename(path("a"), path("moved"));
  file("a", "of somebody else\n");
  remove_own((*own).fd.get(), path("a"));
  EXPECT_EQ(text(path("a")), "of somebody else\n");
}

TEST_F(Files, ALibraryMayOpenWhatIsRegular) {
  ASSERT_EQ(::mkfifo(path("fifo").c_str(), 0600), 0);
  EXPECT_TRUE(check_regular(file("a", "text")));
  EXPECT_TRUE(check_regular(path("absent")));
  EXPECT_FALSE(check_regular(path("fifo")));
}

TEST_F(Files, AFifoThatNobodyOpensIsGivenUp) {
  constexpr FileKind kKind = {"--option", "file of a test", 1};
  ASSERT_EQ(::mkfifo(path("fifo").c_str(), 0600), 0);
  const Fd fd = open_to_read(path("fifo"));
  ASSERT_TRUE(fd);
  EXPECT_FALSE(read_file(fd.get(), path("fifo"), kKind, 1));
  EXPECT_TRUE(open_to_write(path("fifo"), false, 1)) << "it is read here";
  ASSERT_EQ(::mkfifo(path("other").c_str(), 0600), 0);
  EXPECT_FALSE(open_to_write(path("other"), false, 1));
}

} // namespace
} // namespace doppel
