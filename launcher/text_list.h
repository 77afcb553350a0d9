// Lists of texts in one argument of the command line.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace unipool {

// The items between commas, without blanks around them and without empty ones. A comma is part of an item
// where a backslash stands before it or where it is quoted: a quote, " or ', begins behind a blank, a bracket
// or a comma and ends with the same mark. An item that is quoted as a whole loses its marks.
//   a,b             a / b
//   my\, book.txt   my, book.txt
//   0.5 "x, y",z    0.5 "x, y" / z
std::vector<std::string> SplitTextList(std::string_view list);

}  // namespace unipool
