# Makes a web page of the text on standard input. $1 is its title.
set -eu
printf '<!DOCTYPE html>\n<title>%s</title>\n<pre>\n' "$1"
sed -e 's/&/\&amp;/g' -e 's/</\&lt;/g'
printf '</pre>\n'
