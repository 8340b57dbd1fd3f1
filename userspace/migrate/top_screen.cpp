// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/top_screen.h"

#define NCURSES_NOMACROS // else it makes macros of words such as move and clear
#include <curses.h>
#include <langinfo.h>

#include <algorithm>
#include <clocale>
#include <csignal>
#include <cstring>
#include <string_view>

#include "userspace/migrate/key_reader.h"
#include "userspace/migrate/key_render.h"
#include "userspace/migrate/top_render.h"

namespace doppel::migrate {
namespace {
using Clock = std::chrono::steady_clock;
constexpr int kKeyMs = 50; // how long one wait for a key takes: a signal is seen as soon

constexpr size_t kKeysShown = 1000;

volatile std::sig_atomic_t over = 0;

void end(int) { over = 1; }

// The terminal, from newterm() on until it is as it was.
class Curses {
public:
  static Result<std::unique_ptr<Curses>> open() {
    std::setlocale(LC_ALL, "");
    struct sigaction action {};
    action.sa_handler = end;
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT})
      sigaction(signal, &action, nullptr);
    SCREEN *screen = ::newterm(nullptr, stdout, stdin);
    if (!screen)
      return Error{"doppel top", "this terminal is not known ($TERM)",
                   "set TERM, or take --once or --json"};
    return std::unique_ptr<Curses>(new Curses(screen));
  }
  ~Curses() {
    ::endwin();
    ::delscreen(screen_);
  }
  Curses(const Curses &) = delete;
  Curses &operator=(const Curses &) = delete;

  void draw(const std::vector<TopLine> &lines, size_t first) {
    ::erase();
    const auto columns = static_cast<size_t>(std::max(COLS, 0));
    for (int y = 0; y < LINES && first < lines.size(); y++, first++) {
      const TopLine &line = lines[first];
      const int look = attribute(line.kind);
      ::attron(look);
      ::mvaddstr(y, 0, cut(line.text, columns).c_str());
      ::attroff(look);
    }
    ::refresh();
  }

private:
  explicit Curses(SCREEN *screen) : screen_(screen) {
    ::cbreak();
    ::noecho();
    ::keypad(stdscr, TRUE);
    ::timeout(kKeyMs);
    ::curs_set(0);
    if (::has_colors()) {
      ::start_color();
      ::use_default_colors();
      ::init_pair(1, COLOR_RED, -1);
    }
  }

  static int attribute(TopLine::Kind kind) {
    switch (kind) {
    case TopLine::Kind::title:
      return A_BOLD;
    case TopLine::Kind::heading:
      return A_REVERSE;
    case TopLine::Kind::alarm:
      return A_BOLD | (::has_colors() ? COLOR_PAIR(1) : 0);
    case TopLine::Kind::plain:
      break;
    }
    return A_NORMAL;
  }

  SCREEN *screen_;
};

class Session {
public:
  Session(TopReader &reader, double interval_s, Curses &curses)
      : reader_(reader), curses_(curses), interval_(std::chrono::duration_cast<Clock::duration>(
                                              std::chrono::duration<double>(interval_s))) {
    look_.unicode = std::strcmp(::nl_langinfo(CODESET), "UTF-8") == 0;
  }

  void run() {
    curses_.draw({{TopLine::Kind::title, "doppel top  asking the servers"}}, 0);
    while (over == 0 && !quit_) {
      step();
      if (const int key = ::getch(); key != ERR && press(key))
        draw();
    }
  }

private:
  void step() {
    if (keys_shown_)
      step_keys();
    else
      step_servers();
  }

  // Asks when it is time, and takes what has come.
  void step_servers() {
    const auto now = Clock::now();
    if (!asking_ && !paused_ && now >= next_) {
      asked_ = now;
      next_ = now + interval_;
      asking_ = true;
      reader_.begin();
    }
    if (!asking_ || (!reader_.answered() && now < asked_ + interval_))
      return;
    asking_ = false;
    model_ = reader_.finish(now);
    if (!help_)
      draw();
  }

  // Of a mirror that is gone, or whose keys another shows, it is tried anew every interval.
  void step_keys() {
    const auto now = Clock::now();
    if (keys_) {
      const Status taken = keys_->take();
      if (now >= next_ && taken)
        finish_keys();
      else if (!taken)
        keys_failed(taken.errors());
    } else if (now >= next_) {
      open_keys();
    }
  }

  void open_keys() {
    next_ = Clock::now() + interval_;
    auto opened = KeyReader::open(reader_.access());
    if (!opened)
      return keys_failed(opened.errors());
    keys_ = std::move(*opened);
    keys_why_.clear();
  }

  void finish_keys() {
    next_ = Clock::now() + interval_;
    auto model = keys_->finish();
    if (!model)
      return keys_failed(model.errors());
    if (paused_)
      return;
    key_model_ = std::move(*model);
    if (!help_)
      draw();
  }

  void keys_failed(const Errors &errors) {
    keys_.reset();
    key_model_.reset();
    keys_why_ = errors.front().what;
    if (!help_)
      draw();
  }

  // Nothing is sampled while the other view is there.
  void turn_keys() {
    keys_shown_ = !keys_shown_;
    keys_.reset();
    key_model_.reset();
    keys_why_.clear();
    first_ = 0;
    next_ = Clock::now();
    if (keys_shown_)
      open_keys();
  }

  bool press_order(int key) {
    const size_t n = std::string_view("csbn").find(static_cast<char>(key));
    if (!keys_shown_ || key > 'z' || n == std::string_view::npos)
      return false;
    order_ = static_cast<KeyOrder>(n);
    return true;
  }

  std::vector<TopLine> shown_keys() const {
    if (key_model_)
      return key_lines(*key_model_, order_, kKeysShown);
    return {{TopLine::Kind::title,
             "doppel top keys  " + (keys_why_.empty() ? "the first interval" : keys_why_)}};
  }

  // True: the screen is another now.
  bool press(int key) {
    constexpr int kParts = 3;
    switch (key) {
    case 'q':
      quit_ = true;
      return false;
    case ' ':
      paused_ = !paused_;
      break;
    case 'm':
      look_.part = static_cast<TopPart>((static_cast<int>(look_.part) + 1) % kParts);
      first_ = 0;
      break;
    case 'k':
      turn_keys();
      break;
    case 'h':
      help_ = !help_;
      first_ = 0;
      break;
    case KEY_DOWN:
      first_++;
      break;
    case KEY_UP:
      first_ = std::max(0, first_ - 1);
      break;
    case KEY_RESIZE:
      break;
    default:
      return press_order(key);
    }
    return true;
  }

  void draw() {
    look_.sparkline = static_cast<size_t>(std::clamp(COLS - 50, 10, 120));
    auto lines = help_         ? top_help()
                 : keys_shown_ ? shown_keys()
                 : model_      ? top_lines(*model_, look_)
                               : std::vector<TopLine>{};
    if (lines.empty())
      return;
    if (paused_)
      lines[0].text += "  paused";
    first_ = std::clamp(first_, 0, std::max(0, static_cast<int>(lines.size()) - LINES));
    curses_.draw(lines, static_cast<size_t>(first_));
  }

  TopReader &reader_;
  Curses &curses_;
  Clock::duration interval_;
  Clock::time_point next_ = Clock::now(), asked_;
  std::optional<TopModel> model_;
  TopLook look_;
  std::unique_ptr<KeyReader> keys_; // while keys are shown and there is a mirror
  std::optional<KeyModel> key_model_;
  std::string keys_why_; // why there are none
  KeyOrder order_ = KeyOrder::calls;
  bool keys_shown_ = false;
  int first_ = 0; // line at the top of the screen
  bool asking_ = false, paused_ = false, help_ = false, quit_ = false;
};

} // namespace

Status show_top(TopReader &reader, double interval_s) {
  const auto curses = TRY(Curses::open());
  Session(reader, interval_s, *curses).run();
  return Unit{};
}

} // namespace doppel::migrate
