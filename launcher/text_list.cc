#include "launcher/text_list.h"

#include <algorithm>

namespace unipool {
namespace {

bool IsBlank(char letter) {
  return letter == ' ' || letter == '\t' || letter == '\n';
}

bool IsMark(char letter) {
  return letter == '"' || letter == '\'';
}

// Adds what stands between blanks and around no marks, unless that is nothing.
void AddItem(std::string item, std::vector<std::string>& items) {
  while (!item.empty() && IsBlank(item.back())) item.pop_back();
  const size_t begin = item.find_first_not_of(" \t\n");
  item.erase(0, std::min(begin, item.size()));
  const bool is_quoted = item.size() >= 2 && IsMark(item[0]) && item.find(item[0], 1) == item.size() - 1;
  if (is_quoted) item = item.substr(1, item.size() - 2);
  if (!item.empty()) items.push_back(std::move(item));
}

}  // namespace

std::vector<std::string> SplitTextList(std::string_view list) {
  std::vector<std::string> items;
  std::string item;
  char mark = 0;  // of the open quote
  for (size_t i = 0; i < list.size(); ++i) {
    const char letter = list[i];
    const bool is_first = item.empty() || IsBlank(item.back()) || item.back() == '(' || item.back() == '[';
    const bool can_close = list.find(letter, i + 1) != std::string_view::npos;
    if (letter == '\\' && i + 1 < list.size() && list[i + 1] == ',') {
      item += list[++i];
    } else if (letter == ',' && mark == 0) {
      AddItem(std::move(item), items);
      item.clear();
    } else {
      if (mark != 0 && letter == mark) {
        mark = 0;
      } else if (mark == 0 && IsMark(letter) && is_first && can_close) {
        mark = letter;
      }
      item += letter;
    }
  }
  AddItem(std::move(item), items);
  return items;
}

}  // namespace unipool
