// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/top_screen.h"

#define NCURSES_NOMACROS // else it makes macros of words such as move and clear
#include <curses.h>
#include <langinfo.h>

#include <algorithm>
#include <clocale>
#include <csignal>
#include <cstring>

#include "userspace/migrate/top_render.h"

namespace doppel::migrate {
namespace {
using Clock = std::chrono::steady_clock;
constexpr int kKeyMs = 50; // how long one wait for a key takes: a signal is seen as soon

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
  // Asks when it is time, and takes what has come.
  void step() {
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
      return false;
    }
    return true;
  }

  void draw() {
    look_.sparkline = static_cast<size_t>(std::clamp(COLS - 50, 10, 120));
    auto lines = help_ ? top_help() : model_ ? top_lines(*model_, look_) : std::vector<TopLine>{};
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
