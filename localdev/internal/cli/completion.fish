# Completion of tidemark in fish: tidemark completion fish | source
function __tidemark_complete
    set -l words (commandline -opc)
    set -l cur (commandline -ct)
    set -l found ($words[1] __complete fish $words[2..-1] "$cur" 2>/dev/null)
    switch "$found[1]"
        case :files
            __fish_complete_path (string replace -r '^--[^=]*=' '' -- "$cur")
        case :dirs
            __fish_complete_directories (string replace -r '^--[^=]*=' '' -- "$cur")
        case '*'
            printf '%s\n' $found
    end
end
complete -c tidemark -f -a '(__tidemark_complete)'
